"""World models on the Hugging Face Hub: the folder that ``save_pretrained`` writes, pushed and fetched."""

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import torch

from wmcomponents._extras import require
from wmcomponents.pretrained import BadModelError, PretrainedModel, read_config
from wmcomponents.pretrained.folder import CONFIG, STARTS, WEIGHTS
from wmcomponents.saving import load_with_starts
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
        cls, pretrained_model_name_or_path: str | Path, **kwargs: Any
    ) -> "HubModel":
        """Fetch a model.

        Args:
            pretrained_model_name_or_path: a repository such as ``"someone/cartpole-dream"``, or a local folder.
            kwargs: ``device`` for the weights, and those of ``ModelHubMixin.from_pretrained``: ``revision``, ``token``,
                ``cache_dir``, ``force_download``, ``local_files_only``.

        Raises:
            BadModelError: if what is there is no saved model, or is damaged.
        """
        if os.path.isdir(pretrained_model_name_or_path):
            read_config(pretrained_model_name_or_path)  # the mixin reads it too, and has other words for what is wrong
        try:
            return super().from_pretrained(pretrained_model_name_or_path, **kwargs)
        except (json.JSONDecodeError, UnicodeDecodeError, RecursionError, AttributeError) as error:
            # How the mixin fails on a config that is no JSON, or no object; from load() only BadModelError comes.
            name = pretrained_model_name_or_path
            raise BadModelError(
                f"the {CONFIG} of {name} is not that of a saved model; push it again ({error})."
            ) from error

    @classmethod
    def _from_pretrained(  # pyright: ignore[reportIncompatibleMethodOverride]
        cls,
        *,
        model_id: str,
        revision: str | None,
        cache_dir: str | Path | None,
        force_download: bool,
        local_files_only: bool,
        token: str | bool | None,
        device: torch.device | str | None = None,
        **from_config: Any,  # the mixin passes on fields of config.json that are named like our arguments: not wanted
    ) -> "HubModel":
        folder, links_into = model_id, None
        if not os.path.isdir(model_id):
            folder = snapshot_download(
                model_id,
                revision=revision,
                cache_dir=cache_dir,
                force_download=force_download,
                local_files_only=local_files_only,
                token=token,
                allow_patterns=[CONFIG, WEIGHTS, STARTS],
            )
            # models--owner--name/snapshots/REVISION holds links into models--owner--name/blobs.
            links_into = Path(folder).parents[1]
        return cls(*load_with_starts(folder, device=device, links_into=links_into))

    def _save_pretrained(self, save_directory: Path) -> None:
        # The mixin has made the folder and removed its config, so files are replaced one by one, the config last.
        with tempfile.TemporaryDirectory(dir=save_directory) as scratch:
            written = self.world_model.save_pretrained(Path(scratch) / "model", starts=self.starts)
            for name in (WEIGHTS, STARTS, CONFIG):
                if (written / name).exists():
                    os.replace(written / name, save_directory / name)
                else:
                    (save_directory / name).unlink(missing_ok=True)
