"""Observations as a few numbers, of a finite table or continuous, and back."""

from wmcomponents.tokenizers.delta import DeltaTokenizer as DeltaTokenizer
from wmcomponents.tokenizers.diffusers import DiffusersAutoencoder as DiffusersAutoencoder
from wmcomponents.tokenizers.diffusers import diffusers_tokenizer as diffusers_tokenizer
from wmcomponents.tokenizers.diffusers import latent_scale as latent_scale
from wmcomponents.tokenizers.image import ImageDetokenizer as ImageDetokenizer
from wmcomponents.tokenizers.image import ImageTokenizer as ImageTokenizer
from wmcomponents.tokenizers.image import Tokenized as Tokenized
from wmcomponents.tokenizers.latent import LatentDetokenizer as LatentDetokenizer
from wmcomponents.tokenizers.latent import LatentMoments as LatentMoments
from wmcomponents.tokenizers.latent import LatentTokenizer as LatentTokenizer
from wmcomponents.tokenizers.latent_actions import ActionTokenEncoder as ActionTokenEncoder
from wmcomponents.tokenizers.latent_actions import FlattenedEncoder as FlattenedEncoder
from wmcomponents.tokenizers.latent_actions import LatentActionModel as LatentActionModel
from wmcomponents.tokenizers.latent_actions import LatentActions as LatentActions
from wmcomponents.tokenizers.video import TokenizedFilm as TokenizedFilm
from wmcomponents.tokenizers.video import VideoTokenizer as VideoTokenizer
