"""Observations as a few numbers of a finite table, and back."""

from wmcomponents.tokenizers.delta import DeltaTokenizer as DeltaTokenizer
from wmcomponents.tokenizers.image import ImageDetokenizer as ImageDetokenizer
from wmcomponents.tokenizers.image import ImageTokenizer as ImageTokenizer
from wmcomponents.tokenizers.image import Tokenized as Tokenized
