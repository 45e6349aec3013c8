"""World models, one file a paper."""

import difflib
from collections.abc import Iterable
from typing import Any

from wmcomponents.codecs import is_environment, specs_from
from wmcomponents.models.diffusion.avid.config import AVIDConfig as AVIDConfig
from wmcomponents.models.diffusion.avid.config import AVIDLossConfig as AVIDLossConfig
from wmcomponents.models.diffusion.avid.config import AVIDNetworkConfig as AVIDNetworkConfig
from wmcomponents.models.diffusion.avid.config import AVIDSamplingConfig as AVIDSamplingConfig
from wmcomponents.models.diffusion.avid.model import AVID as AVID
from wmcomponents.models.diffusion.avid.objective import AVIDLoss as AVIDLoss
from wmcomponents.models.diffusion.causvid.config import CausVidConfig as CausVidConfig
from wmcomponents.models.diffusion.causvid.config import CausVidLossConfig as CausVidLossConfig
from wmcomponents.models.diffusion.causvid.config import CausVidNetworkConfig as CausVidNetworkConfig
from wmcomponents.models.diffusion.causvid.config import CausVidOptimizerConfig as CausVidOptimizerConfig
from wmcomponents.models.diffusion.causvid.config import CausVidSamplingConfig as CausVidSamplingConfig
from wmcomponents.models.diffusion.causvid.model import CausVid as CausVid
from wmcomponents.models.diffusion.causvid.objective import CausVidLoss as CausVidLoss
from wmcomponents.models.diffusion.diamond.config import FINE_DYNAMICS as FINE_DYNAMICS
from wmcomponents.models.diffusion.diamond.config import FINE_UPSAMPLER as FINE_UPSAMPLER
from wmcomponents.models.diffusion.diamond.config import DenoiserConfig as DenoiserConfig
from wmcomponents.models.diffusion.diamond.config import DiamondConfig as DiamondConfig
from wmcomponents.models.diffusion.diamond.config import DiamondLossConfig as DiamondLossConfig
from wmcomponents.models.diffusion.diamond.config import DiamondNetworkConfig as DiamondNetworkConfig
from wmcomponents.models.diffusion.diamond.config import DiamondOptimizerConfig as DiamondOptimizerConfig
from wmcomponents.models.diffusion.diamond.config import NoiseLevelConfig as NoiseLevelConfig
from wmcomponents.models.diffusion.diamond.config import RewardEndConfig as RewardEndConfig
from wmcomponents.models.diffusion.diamond.config import UpsamplerConfig as UpsamplerConfig
from wmcomponents.models.diffusion.diamond.model import Diamond as Diamond
from wmcomponents.models.diffusion.diamond.objective import DiamondLoss as DiamondLoss
from wmcomponents.models.diffusion.diffusion_forcing.config import DiffusionForcingConfig as DiffusionForcingConfig
from wmcomponents.models.diffusion.diffusion_forcing.config import (
    DiffusionForcingNetworkConfig as DiffusionForcingNetworkConfig,
)
from wmcomponents.models.diffusion.diffusion_forcing.config import FilmUNetConfig as FilmUNetConfig
from wmcomponents.models.diffusion.diffusion_forcing.model import DiffusionForcing as DiffusionForcing
from wmcomponents.models.diffusion.film_world import FilmDiffusionWorld as FilmDiffusionWorld
from wmcomponents.models.diffusion.film_world import FilmPast as FilmPast
from wmcomponents.models.diffusion.forcing_objective import ForcingLoss as ForcingLoss
from wmcomponents.models.diffusion.forcing_objective import ForcingLossConfig as ForcingLossConfig
from wmcomponents.models.diffusion.forcing_objective import ForcingOptimizerConfig as ForcingOptimizerConfig
from wmcomponents.models.diffusion.forcing_world import ForcingProcessConfig as ForcingProcessConfig
from wmcomponents.models.diffusion.forcing_world import ForcingSamplingConfig as ForcingSamplingConfig
from wmcomponents.models.diffusion.forcing_world import ForcingWorld as ForcingWorld
from wmcomponents.models.diffusion.nwm.config import CDiTConfig as CDiTConfig
from wmcomponents.models.diffusion.nwm.config import ConvAutoencoderConfig as ConvAutoencoderConfig
from wmcomponents.models.diffusion.nwm.config import NWMConfig as NWMConfig
from wmcomponents.models.diffusion.nwm.config import NWMLossConfig as NWMLossConfig
from wmcomponents.models.diffusion.nwm.config import NWMNetworkConfig as NWMNetworkConfig
from wmcomponents.models.diffusion.nwm.config import NWMOptimizerConfig as NWMOptimizerConfig
from wmcomponents.models.diffusion.nwm.config import NWMSamplingConfig as NWMSamplingConfig
from wmcomponents.models.diffusion.nwm.model import NWM as NWM
from wmcomponents.models.diffusion.nwm.model import nwm_action_spec as nwm_action_spec
from wmcomponents.models.diffusion.nwm.objective import NWMLoss as NWMLoss
from wmcomponents.models.diffusion.oasis.config import OasisConfig as OasisConfig
from wmcomponents.models.diffusion.oasis.config import OasisLossConfig as OasisLossConfig
from wmcomponents.models.diffusion.oasis.config import OasisNetworkConfig as OasisNetworkConfig
from wmcomponents.models.diffusion.oasis.config import SpaceTimeDiTConfig as SpaceTimeDiTConfig
from wmcomponents.models.diffusion.oasis.config import ViTAutoencoderConfig as ViTAutoencoderConfig
from wmcomponents.models.diffusion.oasis.model import Oasis as Oasis
from wmcomponents.models.diffusion.oasis.objective import OasisLoss as OasisLoss
from wmcomponents.models.diffusion.open_sora.config import FlowSamplingConfig as FlowSamplingConfig
from wmcomponents.models.diffusion.open_sora.config import GivenFramesConfig as GivenFramesConfig
from wmcomponents.models.diffusion.open_sora.config import MMDiTConfig as MMDiTConfig
from wmcomponents.models.diffusion.open_sora.config import OpenSoraConfig as OpenSoraConfig
from wmcomponents.models.diffusion.open_sora.config import OpenSoraLossConfig as OpenSoraLossConfig
from wmcomponents.models.diffusion.open_sora.config import OpenSoraNetworkConfig as OpenSoraNetworkConfig
from wmcomponents.models.diffusion.open_sora.config import STDiT3Config as STDiT3Config
from wmcomponents.models.diffusion.open_sora.model import OpenSora as OpenSora
from wmcomponents.models.diffusion.open_sora.objective import OpenSoraLoss as OpenSoraLoss
from wmcomponents.models.ensemble.config import EnsembleConfig as EnsembleConfig
from wmcomponents.models.ensemble.model import Ensemble as Ensemble
from wmcomponents.models.ensemble.objective import EnsembleLoss as EnsembleLoss
from wmcomponents.models.ensemble.objective import all_rows as all_rows
from wmcomponents.models.ensemble.objective import bootstrap_rows as bootstrap_rows
from wmcomponents.models.ensemble.probabilistic.config import (
    ProbabilisticEnsembleConfig as ProbabilisticEnsembleConfig,
)
from wmcomponents.models.ensemble.probabilistic.config import ProbabilisticLossConfig as ProbabilisticLossConfig
from wmcomponents.models.ensemble.probabilistic.config import ProbabilisticNetworkConfig as ProbabilisticNetworkConfig
from wmcomponents.models.ensemble.probabilistic.config import (
    ProbabilisticOptimizerConfig as ProbabilisticOptimizerConfig,
)
from wmcomponents.models.ensemble.probabilistic.model import ProbabilisticEnsemble as ProbabilisticEnsemble
from wmcomponents.models.ensemble.probabilistic.objective import (
    ProbabilisticEnsembleLoss as ProbabilisticEnsembleLoss,
)
from wmcomponents.models.joint_embedding.dino_wm.config import DINOWMConfig as DINOWMConfig
from wmcomponents.models.joint_embedding.dino_wm.config import DINOWMDecoderConfig as DINOWMDecoderConfig
from wmcomponents.models.joint_embedding.dino_wm.config import DINOWMLossConfig as DINOWMLossConfig
from wmcomponents.models.joint_embedding.dino_wm.config import DINOWMNetworkConfig as DINOWMNetworkConfig
from wmcomponents.models.joint_embedding.dino_wm.config import DINOWMOptimizerConfig as DINOWMOptimizerConfig
from wmcomponents.models.joint_embedding.dino_wm.model import DINOWM as DINOWM
from wmcomponents.models.joint_embedding.dino_wm.objective import DINOWMLoss as DINOWMLoss
from wmcomponents.models.joint_embedding.embedding_encoder import EmbeddingEncoderConfig as EmbeddingEncoderConfig
from wmcomponents.models.joint_embedding.embedding_loss import EmbeddingLoss as EmbeddingLoss
from wmcomponents.models.joint_embedding.embedding_window import EmbeddingWindowModel as EmbeddingWindowModel
from wmcomponents.models.joint_embedding.feature_window import FeatureWindowModel as FeatureWindowModel
from wmcomponents.models.joint_embedding.frozen_encoder import FrozenEncoderConfig as FrozenEncoderConfig
from wmcomponents.models.joint_embedding.ijepa.config import IJEPAConfig as IJEPAConfig
from wmcomponents.models.joint_embedding.ijepa.config import IJEPALossConfig as IJEPALossConfig
from wmcomponents.models.joint_embedding.ijepa.config import IJEPANetworkConfig as IJEPANetworkConfig
from wmcomponents.models.joint_embedding.ijepa.config import IJEPAOptimizerConfig as IJEPAOptimizerConfig
from wmcomponents.models.joint_embedding.ijepa.model import IJEPA as IJEPA
from wmcomponents.models.joint_embedding.ijepa.objective import IJEPALoss as IJEPALoss
from wmcomponents.models.joint_embedding.jepa.config import JEPAConfig as JEPAConfig
from wmcomponents.models.joint_embedding.jepa.config import JEPALossConfig as JEPALossConfig
from wmcomponents.models.joint_embedding.jepa.config import JEPANetworkConfig as JEPANetworkConfig
from wmcomponents.models.joint_embedding.jepa.config import JEPAOptimizerConfig as JEPAOptimizerConfig
from wmcomponents.models.joint_embedding.jepa.model import JEPA as JEPA
from wmcomponents.models.joint_embedding.jepa.objective import JEPALoss as JEPALoss
from wmcomponents.models.joint_embedding.jepa_wm.config import JEPAWMConfig as JEPAWMConfig
from wmcomponents.models.joint_embedding.jepa_wm.config import JEPAWMLossConfig as JEPAWMLossConfig
from wmcomponents.models.joint_embedding.jepa_wm.config import JEPAWMNetworkConfig as JEPAWMNetworkConfig
from wmcomponents.models.joint_embedding.jepa_wm.config import JEPAWMOptimizerConfig as JEPAWMOptimizerConfig
from wmcomponents.models.joint_embedding.jepa_wm.model import JEPAWM as JEPAWM
from wmcomponents.models.joint_embedding.jepa_wm.objective import JEPAWMLoss as JEPAWMLoss
from wmcomponents.models.joint_embedding.lewm.config import LeWMConfig as LeWMConfig
from wmcomponents.models.joint_embedding.lewm.config import LeWMLossConfig as LeWMLossConfig
from wmcomponents.models.joint_embedding.lewm.config import LeWMNetworkConfig as LeWMNetworkConfig
from wmcomponents.models.joint_embedding.lewm.config import LeWMOptimizerConfig as LeWMOptimizerConfig
from wmcomponents.models.joint_embedding.lewm.model import LeWM as LeWM
from wmcomponents.models.joint_embedding.lewm.objective import LeWMLoss as LeWMLoss
from wmcomponents.models.joint_embedding.mae.config import MAEConfig as MAEConfig
from wmcomponents.models.joint_embedding.mae.config import MAELossConfig as MAELossConfig
from wmcomponents.models.joint_embedding.mae.config import MAENetworkConfig as MAENetworkConfig
from wmcomponents.models.joint_embedding.mae.config import MAEOptimizerConfig as MAEOptimizerConfig
from wmcomponents.models.joint_embedding.mae.model import MAE as MAE
from wmcomponents.models.joint_embedding.mae.model import MAEDecoder as MAEDecoder
from wmcomponents.models.joint_embedding.mae.objective import MAELoss as MAELoss
from wmcomponents.models.joint_embedding.masked import MaskedLoss as MaskedLoss
from wmcomponents.models.joint_embedding.masked import MaskedModel as MaskedModel
from wmcomponents.models.joint_embedding.masked_jepa import MaskedJEPA as MaskedJEPA
from wmcomponents.models.joint_embedding.masked_jepa import MaskedJEPALoss as MaskedJEPALoss
from wmcomponents.models.joint_embedding.masked_optimizer import (
    MaskedJEPAOptimizerConfig as MaskedJEPAOptimizerConfig,
)
from wmcomponents.models.joint_embedding.official_masked import ijepa_from_official as ijepa_from_official
from wmcomponents.models.joint_embedding.official_masked import mae_from_official as mae_from_official
from wmcomponents.models.joint_embedding.official_masked import vjepa2_from_official as vjepa2_from_official
from wmcomponents.models.joint_embedding.official_masked import vjepa_from_official as vjepa_from_official
from wmcomponents.models.joint_embedding.official_vit import vit_from_official as vit_from_official
from wmcomponents.models.joint_embedding.pldm.config import PLDMConfig as PLDMConfig
from wmcomponents.models.joint_embedding.pldm.config import PLDMLossConfig as PLDMLossConfig
from wmcomponents.models.joint_embedding.pldm.config import PLDMNetworkConfig as PLDMNetworkConfig
from wmcomponents.models.joint_embedding.pldm.config import PLDMOptimizerConfig as PLDMOptimizerConfig
from wmcomponents.models.joint_embedding.pldm.model import PLDM as PLDM
from wmcomponents.models.joint_embedding.pldm.objective import PLDMLoss as PLDMLoss
from wmcomponents.models.joint_embedding.vit_config import ViTConfig as ViTConfig
from wmcomponents.models.joint_embedding.vjepa.config import VJEPAConfig as VJEPAConfig
from wmcomponents.models.joint_embedding.vjepa.config import VJEPALossConfig as VJEPALossConfig
from wmcomponents.models.joint_embedding.vjepa.config import VJEPANetworkConfig as VJEPANetworkConfig
from wmcomponents.models.joint_embedding.vjepa.config import VJEPAOptimizerConfig as VJEPAOptimizerConfig
from wmcomponents.models.joint_embedding.vjepa.model import VJEPA as VJEPA
from wmcomponents.models.joint_embedding.vjepa.objective import VJEPALoss as VJEPALoss
from wmcomponents.models.joint_embedding.vjepa2_ac.config import VJEPA2ACConfig as VJEPA2ACConfig
from wmcomponents.models.joint_embedding.vjepa2_ac.config import VJEPA2ACLossConfig as VJEPA2ACLossConfig
from wmcomponents.models.joint_embedding.vjepa2_ac.config import VJEPA2ACNetworkConfig as VJEPA2ACNetworkConfig
from wmcomponents.models.joint_embedding.vjepa2_ac.config import VJEPA2ACOptimizerConfig as VJEPA2ACOptimizerConfig
from wmcomponents.models.joint_embedding.vjepa2_ac.model import VJEPA2AC as VJEPA2AC
from wmcomponents.models.joint_embedding.vjepa2_ac.objective import VJEPA2ACLoss as VJEPA2ACLoss
from wmcomponents.models.recurrent.world_models.config import WorldModelsConfig as WorldModelsConfig
from wmcomponents.models.recurrent.world_models.config import WorldModelsLossConfig as WorldModelsLossConfig
from wmcomponents.models.recurrent.world_models.config import WorldModelsMemoryConfig as WorldModelsMemoryConfig
from wmcomponents.models.recurrent.world_models.config import WorldModelsNetworkConfig as WorldModelsNetworkConfig
from wmcomponents.models.recurrent.world_models.config import WorldModelsOptimizerConfig as WorldModelsOptimizerConfig
from wmcomponents.models.recurrent.world_models.config import WorldModelsVisionConfig as WorldModelsVisionConfig
from wmcomponents.models.recurrent.world_models.model import WorldModels as WorldModels
from wmcomponents.models.recurrent.world_models.objective import WorldModelsLoss as WorldModelsLoss
from wmcomponents.models.rssm.base import Filtered as Filtered
from wmcomponents.models.rssm.base import RSSMWorldModel as RSSMWorldModel
from wmcomponents.models.rssm.dreamer_v1.config import DreamerV1Config as DreamerV1Config
from wmcomponents.models.rssm.dreamer_v1.config import DreamerV1LossConfig as DreamerV1LossConfig
from wmcomponents.models.rssm.dreamer_v1.config import DreamerV1NetworkConfig as DreamerV1NetworkConfig
from wmcomponents.models.rssm.dreamer_v1.config import DreamerV1OptimizerConfig as DreamerV1OptimizerConfig
from wmcomponents.models.rssm.dreamer_v1.model import DreamerV1 as DreamerV1
from wmcomponents.models.rssm.dreamer_v1.objective import DreamerV1ModelLoss as DreamerV1ModelLoss
from wmcomponents.models.rssm.dreamer_v2.config import DreamerV2Config as DreamerV2Config
from wmcomponents.models.rssm.dreamer_v2.config import DreamerV2LossConfig as DreamerV2LossConfig
from wmcomponents.models.rssm.dreamer_v2.config import DreamerV2NetworkConfig as DreamerV2NetworkConfig
from wmcomponents.models.rssm.dreamer_v2.config import DreamerV2OptimizerConfig as DreamerV2OptimizerConfig
from wmcomponents.models.rssm.dreamer_v2.model import DreamerV2 as DreamerV2
from wmcomponents.models.rssm.dreamer_v2.objective import DreamerV2ModelLoss as DreamerV2ModelLoss
from wmcomponents.models.rssm.dreamer_v3.config import DreamerV3Config as DreamerV3Config
from wmcomponents.models.rssm.dreamer_v3.config import DreamerV3LossConfig as DreamerV3LossConfig
from wmcomponents.models.rssm.dreamer_v3.config import DreamerV3NetworkConfig as DreamerV3NetworkConfig
from wmcomponents.models.rssm.dreamer_v3.config import DreamerV3OptimizerConfig as DreamerV3OptimizerConfig
from wmcomponents.models.rssm.dreamer_v3.model import DreamerV3 as DreamerV3
from wmcomponents.models.rssm.dreamer_v3.objective import DreamerV3ModelLoss as DreamerV3ModelLoss
from wmcomponents.models.rssm.dreamer_v3_preprint.config import DreamerV3PreprintConfig as DreamerV3PreprintConfig
from wmcomponents.models.rssm.dreamer_v3_preprint.config import (
    DreamerV3PreprintLossConfig as DreamerV3PreprintLossConfig,
)
from wmcomponents.models.rssm.dreamer_v3_preprint.config import (
    DreamerV3PreprintNetworkConfig as DreamerV3PreprintNetworkConfig,
)
from wmcomponents.models.rssm.dreamer_v3_preprint.config import (
    DreamerV3PreprintOptimizerConfig as DreamerV3PreprintOptimizerConfig,
)
from wmcomponents.models.rssm.dreamer_v3_preprint.model import DreamerV3Preprint as DreamerV3Preprint
from wmcomponents.models.rssm.dreamer_v3_preprint.objective import (
    DreamerV3PreprintModelLoss as DreamerV3PreprintModelLoss,
)
from wmcomponents.models.rssm.objective import RSSMModelLoss as RSSMModelLoss
from wmcomponents.models.rssm.planet.config import PlaNetConfig as PlaNetConfig
from wmcomponents.models.rssm.planet.config import PlaNetLossConfig as PlaNetLossConfig
from wmcomponents.models.rssm.planet.config import PlaNetNetworkConfig as PlaNetNetworkConfig
from wmcomponents.models.rssm.planet.config import PlaNetOptimizerConfig as PlaNetOptimizerConfig
from wmcomponents.models.rssm.planet.model import PlaNet as PlaNet
from wmcomponents.models.rssm.planet.objective import PlaNetModelLoss as PlaNetModelLoss
from wmcomponents.models.tokens.base import CachedTransformerModel as CachedTransformerModel
from wmcomponents.models.tokens.base import KVCachedModel as KVCachedModel
from wmcomponents.models.tokens.base import RewardedTransformerModel as RewardedTransformerModel
from wmcomponents.models.tokens.config import TokenLossConfig as TokenLossConfig
from wmcomponents.models.tokens.config import TokenOptimizerConfig as TokenOptimizerConfig
from wmcomponents.models.tokens.delta_iris.config import DeltaIRISConfig as DeltaIRISConfig
from wmcomponents.models.tokens.delta_iris.config import DeltaIRISLossConfig as DeltaIRISLossConfig
from wmcomponents.models.tokens.delta_iris.config import DeltaIRISNetworkConfig as DeltaIRISNetworkConfig
from wmcomponents.models.tokens.delta_iris.config import DeltaIRISOptimizerConfig as DeltaIRISOptimizerConfig
from wmcomponents.models.tokens.delta_iris.config import DeltaIRISTokenizerConfig as DeltaIRISTokenizerConfig
from wmcomponents.models.tokens.delta_iris.config import DeltaIRISTransformerConfig as DeltaIRISTransformerConfig
from wmcomponents.models.tokens.delta_iris.model import DeltaIRIS as DeltaIRIS
from wmcomponents.models.tokens.delta_iris.objective import DeltaIRISLoss as DeltaIRISLoss
from wmcomponents.models.tokens.film_config import FilmDecodingConfig as FilmDecodingConfig
from wmcomponents.models.tokens.film_config import FilmLossConfig as FilmLossConfig
from wmcomponents.models.tokens.film_config import FilmOptimizerConfig as FilmOptimizerConfig
from wmcomponents.models.tokens.film_objective import FilmTokenLoss as FilmTokenLoss
from wmcomponents.models.tokens.film_objective import GuidedFilmLoss as GuidedFilmLoss
from wmcomponents.models.tokens.film_world import FilmTokenWorld as FilmTokenWorld
from wmcomponents.models.tokens.film_world import UnlabelledFilmWorld as UnlabelledFilmWorld
from wmcomponents.models.tokens.gaia1.config import GAIA1Config as GAIA1Config
from wmcomponents.models.tokens.gaia1.config import GAIA1LossConfig as GAIA1LossConfig
from wmcomponents.models.tokens.gaia1.config import GAIA1NetworkConfig as GAIA1NetworkConfig
from wmcomponents.models.tokens.gaia1.config import GAIA1SamplingConfig as GAIA1SamplingConfig
from wmcomponents.models.tokens.gaia1.config import GAIA1TokenizerConfig as GAIA1TokenizerConfig
from wmcomponents.models.tokens.gaia1.config import GAIA1TransformerConfig as GAIA1TransformerConfig
from wmcomponents.models.tokens.gaia1.model import GAIA1 as GAIA1
from wmcomponents.models.tokens.gaia1.objective import GAIA1Loss as GAIA1Loss
from wmcomponents.models.tokens.gaia1.tokenizer import DistilledTokenizer as DistilledTokenizer
from wmcomponents.models.tokens.gaia1.world import TextImageActionModel as TextImageActionModel
from wmcomponents.models.tokens.genie.config import GenieActionConfig as GenieActionConfig
from wmcomponents.models.tokens.genie.config import GenieConfig as GenieConfig
from wmcomponents.models.tokens.genie.config import GenieDynamicsConfig as GenieDynamicsConfig
from wmcomponents.models.tokens.genie.config import GenieNetworkConfig as GenieNetworkConfig
from wmcomponents.models.tokens.genie.config import GenieTokenizerConfig as GenieTokenizerConfig
from wmcomponents.models.tokens.genie.model import Genie as Genie
from wmcomponents.models.tokens.genie_redux.config import GenieReduxConfig as GenieReduxConfig
from wmcomponents.models.tokens.genie_redux.config import GenieReduxGConfig as GenieReduxGConfig
from wmcomponents.models.tokens.genie_redux.config import ReduxActionConfig as ReduxActionConfig
from wmcomponents.models.tokens.genie_redux.config import ReduxDynamicsConfig as ReduxDynamicsConfig
from wmcomponents.models.tokens.genie_redux.config import ReduxGuidedNetworkConfig as ReduxGuidedNetworkConfig
from wmcomponents.models.tokens.genie_redux.config import ReduxNetworkConfig as ReduxNetworkConfig
from wmcomponents.models.tokens.genie_redux.config import ReduxSizeConfig as ReduxSizeConfig
from wmcomponents.models.tokens.genie_redux.config import ReduxTokenizerConfig as ReduxTokenizerConfig
from wmcomponents.models.tokens.genie_redux.model import GenieRedux as GenieRedux
from wmcomponents.models.tokens.genie_redux.model import GenieReduxG as GenieReduxG
from wmcomponents.models.tokens.iris.config import IRISConfig as IRISConfig
from wmcomponents.models.tokens.iris.config import IRISLossConfig as IRISLossConfig
from wmcomponents.models.tokens.iris.config import IRISNetworkConfig as IRISNetworkConfig
from wmcomponents.models.tokens.iris.config import IRISTokenizerConfig as IRISTokenizerConfig
from wmcomponents.models.tokens.iris.config import IRISTransformerConfig as IRISTransformerConfig
from wmcomponents.models.tokens.iris.model import IRIS as IRIS
from wmcomponents.models.tokens.iris.objective import IRISLoss as IRISLoss
from wmcomponents.models.tokens.latent_film_objective import FilmLoss as FilmLoss
from wmcomponents.models.tokens.lwm.config import LWMConfig as LWMConfig
from wmcomponents.models.tokens.lwm.config import LWMLossConfig as LWMLossConfig
from wmcomponents.models.tokens.lwm.config import LWMNetworkConfig as LWMNetworkConfig
from wmcomponents.models.tokens.lwm.config import LWMTokenizerConfig as LWMTokenizerConfig
from wmcomponents.models.tokens.lwm.config import LWMTransformerConfig as LWMTransformerConfig
from wmcomponents.models.tokens.lwm.model import LWM as LWM
from wmcomponents.models.tokens.lwm.objective import LWMLoss as LWMLoss
from wmcomponents.models.tokens.lwm.objective import text_vision_loss as text_vision_loss
from wmcomponents.models.tokens.lwm.stages import TEXT_STAGES as TEXT_STAGES
from wmcomponents.models.tokens.lwm.stages import VISION_STAGES as VISION_STAGES
from wmcomponents.models.tokens.lwm.stages import ContextStage as ContextStage
from wmcomponents.models.tokens.objective import TokenWorldLoss as TokenWorldLoss
from wmcomponents.models.tokens.storm.config import STORMConfig as STORMConfig
from wmcomponents.models.tokens.storm.config import STORMLossConfig as STORMLossConfig
from wmcomponents.models.tokens.storm.config import STORMNetworkConfig as STORMNetworkConfig
from wmcomponents.models.tokens.storm.config import STORMOptimizerConfig as STORMOptimizerConfig
from wmcomponents.models.tokens.storm.model import STORM as STORM
from wmcomponents.models.tokens.storm.objective import STORMLoss as STORMLoss
from wmcomponents.models.value_equivalent.base import ValueEquivalentModel as ValueEquivalentModel
from wmcomponents.models.value_equivalent.config import ValueEquivalentLossConfig as ValueEquivalentLossConfig
from wmcomponents.models.value_equivalent.config import ValueEquivalentOptimizerConfig as ValueEquivalentOptimizerConfig
from wmcomponents.models.value_equivalent.efficientzero.config import EfficientZeroConfig as EfficientZeroConfig
from wmcomponents.models.value_equivalent.efficientzero.config import EfficientZeroLossConfig as EfficientZeroLossConfig
from wmcomponents.models.value_equivalent.efficientzero.config import (
    EfficientZeroNetworkConfig as EfficientZeroNetworkConfig,
)
from wmcomponents.models.value_equivalent.efficientzero.config import (
    EfficientZeroOptimizerConfig as EfficientZeroOptimizerConfig,
)
from wmcomponents.models.value_equivalent.efficientzero.model import EfficientZero as EfficientZero
from wmcomponents.models.value_equivalent.efficientzero.objective import EfficientZeroLoss as EfficientZeroLoss
from wmcomponents.models.value_equivalent.muzero.config import MuZeroConfig as MuZeroConfig
from wmcomponents.models.value_equivalent.muzero.config import MuZeroLossConfig as MuZeroLossConfig
from wmcomponents.models.value_equivalent.muzero.config import MuZeroNetworkConfig as MuZeroNetworkConfig
from wmcomponents.models.value_equivalent.muzero.config import MuZeroOptimizerConfig as MuZeroOptimizerConfig
from wmcomponents.models.value_equivalent.muzero.model import MuZero as MuZero
from wmcomponents.models.value_equivalent.muzero.objective import MuZeroLoss as MuZeroLoss
from wmcomponents.models.value_equivalent.objective import ValueEquivalentLoss as ValueEquivalentLoss
from wmcomponents.models.value_equivalent.priorities import initial_priorities as initial_priorities
from wmcomponents.models.value_equivalent.tdmpc2.config import TDMPC2Config as TDMPC2Config
from wmcomponents.models.value_equivalent.tdmpc2.config import TDMPC2LossConfig as TDMPC2LossConfig
from wmcomponents.models.value_equivalent.tdmpc2.config import TDMPC2NetworkConfig as TDMPC2NetworkConfig
from wmcomponents.models.value_equivalent.tdmpc2.config import TDMPC2OptimizerConfig as TDMPC2OptimizerConfig
from wmcomponents.models.value_equivalent.tdmpc2.model import TDMPC2 as TDMPC2
from wmcomponents.models.value_equivalent.tdmpc2.objective import TDMPC2Loss as TDMPC2Loss
from wmcomponents.pretrained import PretrainedModel, PretrainedModule

MODELS: dict[str, type[PretrainedModel]] = {
    "AVID": AVID,
    "CausVid": CausVid,
    "DINOWM": DINOWM,
    "DeltaIRIS": DeltaIRIS,
    "Diamond": Diamond,
    "DiffusionForcing": DiffusionForcing,
    "DreamerV1": DreamerV1,
    "DreamerV2": DreamerV2,
    "DreamerV3": DreamerV3,
    "DreamerV3Preprint": DreamerV3Preprint,
    "EfficientZero": EfficientZero,
    "GAIA1": GAIA1,
    "Genie": Genie,
    "GenieRedux": GenieRedux,
    "GenieReduxG": GenieReduxG,
    "IRIS": IRIS,
    "JEPA": JEPA,
    "JEPAWM": JEPAWM,
    "LWM": LWM,
    "LeWM": LeWM,
    "MuZero": MuZero,
    "NWM": NWM,
    "Oasis": Oasis,
    "OpenSora": OpenSora,
    "PLDM": PLDM,
    "PlaNet": PlaNet,
    "STORM": STORM,
    "TDMPC2": TDMPC2,
    "VJEPA2AC": VJEPA2AC,
    "WorldModels": WorldModels,
}
"""Families by the name that their saved config carries."""

ENSEMBLES: dict[str, type[PretrainedModel]] = {
    "Ensemble": Ensemble,
    "ProbabilisticEnsemble": ProbabilisticEnsemble,
}
"""Models made of members, by the name that their saved config carries."""

PRETRAINING: dict[str, type[MaskedModel]] = {
    "IJEPA": IJEPA,
    "MAE": MAE,
    "VJEPA": VJEPA,
}
"""Models that pretrain an encoder and are no world models, by the name that their saved config carries."""

OFFICIAL: dict[str, type[PretrainedModel]] = {
    "delta-iris": DeltaIRIS,
    "diamond": Diamond,
    "EfficientZero": EfficientZero,
    "iris": IRIS,
    "muzero-general": MuZero,
    "nwm": NWM,
    "open-oasis": Oasis,
    "tdmpc2": TDMPC2,
    "vjepa2-ac": VJEPA2AC,
    "world-models": WorldModels,
}
"""Families that read the checkpoints of a paper's own repository (``from_official``), by that repository's name."""


def families() -> dict[str, type[PretrainedModel]]:
    """What is made by a name and a preset: :data:`MODELS`, and the ensembles that are one network."""
    return {**MODELS, **{name: kind for name, kind in ENSEMBLES.items() if kind.presets()}}


def presets(family: str) -> tuple[str, ...]:
    """Names of a family's presets: the classmethods of its config class, ``tiny`` first.

    Raises:
        ValueError: for an unknown family.
    """
    known: dict[str, type[PretrainedModule]] = {**families(), **PRETRAINING}
    if family not in known:
        raise ValueError(f"the families known here are {', '.join(known)}; got {family!r}.{_meant(family, known)}")
    return known[family].presets()


def make_model(
    family: str, preset: str, observation_spec: Any, action_spec: Any = None, **changes: Any
) -> PretrainedModel:
    """A world model with fresh weights.

    Args:
        family: a name of :func:`families`.
        preset: a name of :func:`presets`.
        observation_spec: spec or Gymnasium space of one real observation; or an environment, which tells both.
        action_spec: spec or Gymnasium space of one real action; none for an environment.
        **changes: entries of the config that differ from the preset.

    Raises:
        ValueError: for an unknown family or preset, or if the family cannot model these specs or spaces.
    """
    if family in PRETRAINING:
        raise ValueError(f"{family} is no world model, but pretrains an encoder for one: make_pretraining makes it.")
    check_preset(family, preset)
    cls: Any = families()[family]
    specs = (observation_spec,) if action_spec is None else (observation_spec, action_spec)
    return cls(getattr(cls.config_class, preset)(**changes), *specs)


def make_pretraining(family: str, preset: str, observation_spec: Any, **changes: Any) -> MaskedModel:
    """A model that pretrains an encoder, with fresh weights.

    Args:
        family: a name of :data:`PRETRAINING`.
        preset: a name of :func:`presets`.
        observation_spec: spec of one real observation in which there is one image; or an environment, which tells it.
        **changes: entries of the config that differ from the preset.

    Raises:
        ValueError: for an unknown family or preset, or if there is not one image, or patches do not fill it.
    """
    if family not in PRETRAINING:
        known = ", ".join(PRETRAINING)
        raise ValueError(f"encoders are pretrained by {known}; got {family!r}.{_meant(family, PRETRAINING)}")
    check_preset(family, preset)
    cls: Any = PRETRAINING[family]
    shown = specs_from(observation_spec)[0] if is_environment(observation_spec) else observation_spec
    return cls.from_config(getattr(cls.config_class, preset)(**changes), shown)


def check_preset(family: str, preset: str) -> None:
    """Refuse a preset that a family does not have.

    Args:
        family: its name.
        preset: the name of the preset.

    Raises:
        ValueError: for an unknown family or preset; the message names those that there are.
    """
    known = presets(family)
    if preset not in known:
        raise ValueError(f"{family} has the presets {', '.join(known)}; got {preset!r}.{_meant(preset, known)}")


def _meant(given: str, known: Iterable[str]) -> str:
    by_letters = {name.lower(): name for name in known}
    close = difflib.get_close_matches(str(given).lower(), by_letters, n=1, cutoff=0.55)
    return f" Did you mean {by_letters[close[0]]!r}?" if close else ""
