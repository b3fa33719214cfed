"""XML as a stream of elements, in bounded memory: no entities, no depth, nothing fetched."""

from collections.abc import Iterator
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


def elements(path: Path) -> Iterator[Element]:
    """Each element as it ends.

    Raises:
        Fault: broken-xml, unsafe-xml; once the elements before were given.
    """
    handlers = _Handlers()
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
    def __init__(self) -> None:
        self.ended: list[Element] = []
        self.open: list[tuple[str, int, list[str]]] = []
        self.parser = parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
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
        above = f"{self.open[-1][0]}/" if self.open else ""
        self.open.append((above + name, self.parser.CurrentLineNumber, []))

    def _characters(self, text: str) -> None:
        self.open[-1][2].append(text)

    def _end(self, _: str) -> None:
        key, line, texts = self.open.pop()
        self.ended.append(Element(key, line, "".join(texts).strip()))

    def _doctype(self, name: str, system: str | None, public: str | None, _: bool) -> None:
        if system or public:
            raise Fault("unsafe-xml", "refers to an external DTD; remove the DOCTYPE line")

    def _entity(self, *_: object) -> NoReturn:
        raise Fault("unsafe-xml", "declares an entity; remove the DOCTYPE line")
