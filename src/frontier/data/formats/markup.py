"""XML as a stream of elements, in bounded memory: no entities, no depth, nothing fetched."""

import codecs
import re
from collections.abc import Container, Iterator
from pathlib import Path
from typing import NamedTuple, NoReturn
from xml.parsers import expat

from frontier.data.formats.reading import Fault

CHUNK = 1 << 20  # bytes
DEEPEST = 32
STATED = re.compile(rb"""\s*<\?xml[^>]{0,200}?encoding\s*=\s*["']([\w.-]{1,40})["']""")
WIDE = {  # what the parser does not decode by itself; the last is a superset of the two before
    **dict.fromkeys(("gb2312", "gbk", "gb18030"), "gb18030"),
    **{name: name for name in ("big5", "shift_jis", "euc-jp", "euc-kr")},
}


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
    with path.open("rb") as file:
        chunk = file.read(CHUNK)
        stated = STATED.match(chunk)
        handlers = _Handlers(wanted, WIDE.get(stated[1].decode().lower()) if stated else None)
        while True:
            fault = handlers.feed(chunk)
            yield from handlers.ended
            handlers.ended.clear()
            if fault:
                raise fault
            if not chunk:
                return
            chunk = file.read(CHUNK)


class _Handlers:
    def __init__(self, wanted: Container[str], wide: str | None) -> None:
        self.wanted = wanted
        self.ended: list[Element] = []
        self.open: list[str] = []  # keys
        self.lines: list[int] = []  # of the wanted among them
        self.texts: list[str] = []  # since the last wanted element began
        self.decoder = codecs.getincrementaldecoder(wide)() if wide else None
        self.parser = parser = expat.ParserCreate("utf-8" if wide else None)
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.StartDoctypeDeclHandler = self._doctype
        parser.EntityDeclHandler = self._entity

    def feed(self, chunk: bytes) -> Fault | None:
        """Parse on, an empty chunk being the end; what broke is returned."""
        try:
            text = self.decoder.decode(chunk, not chunk).encode() if self.decoder else chunk
            self.parser.Parse(text, not chunk)
        except Fault as fault:
            return fault
        # the latter two: an encoding that is not known, or bytes that are not in it
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
