"""World models on the Hugging Face Hub: the folder that ``save_pretrained`` writes, pushed and fetched."""

import contextlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch

from wmcomponents._extras import require
from wmcomponents.models.loading import load_with_starts
from wmcomponents.pretrained import PretrainedModel, replacing
from wmcomponents.pretrained.folder import CONFIG, STARTS, WEIGHTS
from wmcomponents.world_model import State

require("huggingface_hub", extra="hub")

from huggingface_hub import ModelHubMixin, snapshot_download  # noqa: E402

CARD = """---
{{ card_data }}
---

A world model made with `wmcomponents`. To load it:

```python
from wmcomponents.integrations.hub import HubModel

hub = HubModel.from_pretrained("THIS REPOSITORY")
model, starts = hub.world_model, hub.starts
```
"""


class HubModel(
    ModelHubMixin,
    library_name="wmcomponents",
    tags=["world-model", "reinforcement-learning"],
    model_card_template=CARD,
):
    """A world model and its start states, as one thing that goes to the Hub and comes back.

    The methods are those of ``huggingface_hub.ModelHubMixin``. What is fetched is checked as any other saved model is
    (:class:`~wmcomponents.pretrained.BadModelError`), and nothing in it is ever executed.

    Args:
        world_model: the model.
        starts: start states ``[N, ...]`` of its dreams, or ``None``.

    Example:
        Push a trained model, and fetch it elsewhere (not run here: both need the network)::

            HubModel(model, starts).push_to_hub("someone/cartpole-dream")
            model = HubModel.from_pretrained("someone/cartpole-dream").world_model
    """

    def __init__(self, world_model: PretrainedModel, starts: State | None = None) -> None:
        self.world_model = world_model
        self.starts = starts

    @classmethod
    def from_pretrained(  # pyright: ignore[reportIncompatibleMethodOverride]
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        device: torch.device | str | None = None,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
    ) -> "HubModel":
        """Fetch a model; the mixin's own method would read the config before it is checked.

        Args:
            pretrained_model_name_or_path: a repository such as ``"someone/cartpole-dream"``, or a local folder.
            device: where the weights go; the CPU if not given.
            revision: of the repository: a branch, a tag or a commit.
            token: of the Hub, for what is not public.
            cache_dir: where downloads are kept.
            force_download: whether to fetch what is there already.
            local_files_only: whether to ask the Hub for nothing.

        Raises:
            BadModelError: if what is there is no saved model, or is damaged.
        """
        path = pretrained_model_name_or_path
        if os.path.isdir(path):
            return cls(*load_with_starts(path, device=device))
        folder = snapshot_download(
            str(path),
            revision=revision,
            cache_dir=cache_dir,
            force_download=force_download,
            local_files_only=local_files_only,
            token=token,
            allow_patterns=[CONFIG, WEIGHTS, STARTS],
        )
        # models--owner--name/snapshots/REVISION holds links into models--owner--name/blobs.
        return cls(*load_with_starts(folder, device=device, links_into=Path(folder).parents[1]))

    def save_pretrained(self, save_directory: str | Path, **options: Any) -> str | None:
        """Write the model and its card to a folder, in one step as any saved model; a card that is there stays.

        Args:
            save_directory: the folder; replaced if it is one that holds a saved model, a card, and nothing else.
            options: those of ``ModelHubMixin.save_pretrained``: ``push_to_hub``, ``repo_id``, ``model_card_kwargs``.

        Raises:
            FileExistsError: if the path exists and is not a saved model, or holds files that would be lost.
            ValueError, TypeError: as ``save_pretrained`` of the model.
        """
        path = Path(save_directory)
        with replacing(path, (CONFIG, WEIGHTS, STARTS, "README.md"), "saved model") as fresh:
            with contextlib.suppress(FileNotFoundError):
                shutil.copy(path / "README.md", fresh)
            return super().save_pretrained(fresh, **{"repo_id": path.name, **options})

    def _save_pretrained(self, save_directory: Path) -> None:
        with tempfile.TemporaryDirectory(dir=save_directory) as scratch:
            written = self.world_model.save_pretrained(Path(scratch) / "model", starts=self.starts)
            for file in written.iterdir():
                os.replace(file, save_directory / file.name)
