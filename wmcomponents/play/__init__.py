"""A dream to be played by hand: in a browser, or in a notebook."""

from wmcomponents.play.controls import Controls as Controls
from wmcomponents.play.conversation import Conversation as Conversation
from wmcomponents.play.errors import PlayError as PlayError
from wmcomponents.play.opening import open_dream as open_dream
from wmcomponents.play.reality import Reality as Reality
from wmcomponents.play.session import Branch as Branch
from wmcomponents.play.session import Moment as Moment
from wmcomponents.play.session import Session as Session
from wmcomponents.play.start_menu import StartMenu as StartMenu
from wmcomponents.play.widget import play_widget as play_widget
