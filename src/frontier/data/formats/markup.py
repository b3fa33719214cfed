"""XML as a stream of elements, in bounded memory: no entities, no depth, nothing fetched."""

from collections.abc import Container, Iterator
from pathlib import Path
from typing import NamedTuple, NoReturn
from xml.parsers import expat

from frontier.data.formats.reading import Fault

CHUNK = 1 << 20  # bytes
DEEPEST = 32


class Element(NamedTuple):
    """`key` is its path, such as `annotation/size/width`; `line` that of its start, from 1."""

    key: str
    line: int
    text: str


def elements(path: Path, wanted: Container[str]) -> Iterator[Element]:
    """Each element whose key is wanted, as it ends.

    Raises:
        Fault: broken-xml, unsafe-xml; once the elements before were given.
    """
    handlers = _Handlers(wanted)
    with path.open("rb") as file:
        while True:
            chunk = file.read(CHUNK)
            fault = handlers.feed(chunk)
            yield from handlers.ended
            handlers.ended.clear()
            if fault:
                raise fault
            if not chunk:
                return


class _Handlers:
    def __init__(self, wanted: Container[str]) -> None:
        self.wanted = wanted
        self.ended: list[Element] = []
        self.open: list[str] = []  # keys
        self.lines: list[int] = []  # of the wanted among them
        self.texts: list[str] = []  # since the last wanted element began
        self.parser = parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.StartDoctypeDeclHandler = self._doctype
        parser.EntityDeclHandler = self._entity

    def feed(self, chunk: bytes) -> Fault | None:
        """Parse on, an empty chunk being the end; what broke is returned."""
        try:
            self.parser.Parse(chunk, not chunk)
        except Fault as fault:
            return fault
        # the latter two: an encoding that Python does not know, or not as one of single bytes
        except (expat.ExpatError, LookupError, ValueError) as error:
            return Fault("broken-xml", f"is not valid XML: {error}")
        return None

    def _start(self, name: str, _: dict[str, str]) -> None:
        if len(self.open) == DEEPEST:
            raise Fault("broken-xml", f"has elements more than {DEEPEST} deep")
        key = f"{self.open[-1]}/{name}" if self.open else name
        self.open.append(key)
        if key in self.wanted:
            self.lines.append(self.parser.CurrentLineNumber)
            self.texts = []
            # only here: most text of a file is white space between elements
            self.parser.CharacterDataHandler = self.texts.append

    def _end(self, _: str) -> None:
        key = self.open.pop()
        if key in self.wanted:
            self.parser.CharacterDataHandler = None
            self.ended.append(Element(key, self.lines.pop(), "".join(self.texts).strip()))
            self.texts = []

    def _doctype(self, name: str, system: str | None, public: str | None, _: bool) -> None:
        if system or public:
            raise Fault("unsafe-xml", "refers to an external DTD; remove the DOCTYPE line")

    def _entity(self, *_: object) -> NoReturn:
        raise Fault("unsafe-xml", "declares an entity; remove the DOCTYPE line")
