"""Which column holds what: users, items, ratings, timestamps; given by name or position, or guessed."""

from collections.abc import Sequence
from dataclasses import dataclass

from .errors import PlatewiseError

_USERS = "user userid uid username customer customerid reviewer reviewerid rater raterid member memberid u"
_ITEMS = (
    "item itemid iid movie movieid film filmid product productid parentasin asin book bookid isbn "
    "song songid track trackid artist artistid anime animeid game gameid business businessid "
    "show showid title i"
)
_RATINGS = "rating ratings score scores star stars overall bookrating userrating value r"
_TIMES = "timestamp time ts date datetime unixreviewtime ratedat createdat reviewtime t"

_WORDS = {
    "user": _USERS.split(),
    "item": _ITEMS.split(),
    "rating": _RATINGS.split(),
    "timestamp": _TIMES.split(),
}


@dataclass(frozen=True)
class Wanted:
    """The columns a caller asked for; None where they are to be guessed.

    Attributes:
        user: Name or position of the column of users.
        item: Of items.
        rating: Of ratings.
        timestamp: Of timestamps; False to leave them out, True to insist on a guess.
    """

    user: str | int | None = None
    item: str | int | None = None
    rating: str | int | None = None
    timestamp: str | int | bool | None = None

    def names(self) -> list[str]:
        """The columns asked for by name."""
        asked = (self.user, self.item, self.rating, self.timestamp)
        return [column for column in asked if isinstance(column, str)]


@dataclass(frozen=True)
class Columns:
    """The columns chosen, by name; ``timestamp`` is None where there is none."""

    user: str
    item: str
    rating: str
    timestamp: str | None

    def roles(self) -> dict[str, str]:
        """Role ("user", "item", ...) to the name of its column."""
        roles = {"user": self.user, "item": self.item, "rating": self.rating}
        return roles | ({"timestamp": self.timestamp} if self.timestamp is not None else {})


def choose_columns(available: Sequence[str], wanted: Wanted, label: str) -> Columns:
    """Choose the columns of a table.

    Args:
        available: Names of its columns, in order.
        wanted: What the caller asked for.
        label: What to call the table in an error.

    Raises:
        PlatewiseError: A column asked for is not there, or none looks like users, items or ratings.
    """
    user = _choose("user", available, wanted.user, label)
    item = _choose("item", available, wanted.item, label)
    rating = _choose("rating", available, wanted.rating, label)
    chosen = Columns(user, item, rating, _choose_timestamp(available, wanted.timestamp, label))
    if len(set(chosen.roles().values())) < len(chosen.roles()):
        raise PlatewiseError(
            f"Expected a column for each role, got one used twice in {label}: {chosen.roles()}. "
            "Name the other one (--user, --item, --rating, --timestamp)."
        )
    return chosen


def _choose(role: str, available: Sequence[str], asked: str | int | None, label: str) -> str:
    if asked is not None:
        return _asked(role, available, asked, label)
    guess = _guess(role, available)
    if guess is None:
        raise PlatewiseError(
            f"Expected a column of {role}s in {label}, got the columns {', '.join(available)}. "
            f"Name it with {role}=... (--{role})."
        )
    return guess


def _choose_timestamp(available: Sequence[str], asked: str | int | bool | None, label: str) -> str | None:
    if asked is False:
        return None
    if asked is None:
        return _guess("timestamp", available)
    return _choose("timestamp", available, None if asked is True else asked, label)


def _asked(role: str, available: Sequence[str], asked: str | int, label: str) -> str:
    if isinstance(asked, str) and asked in available:
        return asked
    if isinstance(asked, int) and 0 <= asked < len(available):
        return available[asked]
    raise PlatewiseError(
        f"Expected a column {asked!r} of {role}s in {label}, got the columns {', '.join(available)}. Name one of these."
    )


def _guess(role: str, available: Sequence[str]) -> str | None:
    by_word = {_plain(column): column for column in reversed(available)}
    return next((by_word[word] for word in _WORDS[role] if word in by_word), None)


def _plain(column: str) -> str:
    """``User_ID:token`` -> ``userid``: RecBole's files carry a type behind a colon."""
    return "".join(letter for letter in column.split(":")[0].lower() if letter.isalnum())
