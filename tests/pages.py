"""An HTML page as a browser's parser would see it: elements, their attributes and where each text stands."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser

_VOID = {"meta", "br", "hr", "img", "input", "link"}


@dataclass(frozen=True, kw_only=True)
class Element:
    """texts: all text inside, the descendants' too; inside: the elements around it, outermost first."""

    tag: str
    attributes: dict[str, str]
    inside: tuple[Element, ...]
    texts: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return " ".join("".join(self.texts).split())

    def matches(self, tag: str, kind: str) -> bool:
        return self.tag == tag and (not kind or kind in self.attributes.get("class", "").split())

    def within(self, tag: str, kind: str = "") -> bool:
        return any(e.matches(tag, kind) for e in self.inside)


class Page(HTMLParser):
    """elements: in the order of the page; seen: the text that no <details> hides.

    An element that is not closed in its place is an error.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[Element] = []
        self.seen = ""
        self._open: list[Element] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def all(self, tag: str, kind: str = "") -> list[Element]:
        return [e for e in self.elements if e.matches(tag, kind)]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        self.elements.append(Element(tag=tag, attributes=attributes, inside=tuple(self._open)))
        if tag not in _VOID:
            self._open.append(self.elements[-1])

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in _VOID:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop().tag == tag

    def handle_data(self, data: str) -> None:
        for element in self._open:
            element.texts.append(data)
        around = [element.tag for element in self._open]
        if "details" not in around or "summary" in around:
            self.seen += data


def check_alone(page: Page) -> None:
    """Nothing runs, nothing comes from elsewhere, every link leads to a place of the page, every place is one."""
    assert not {e.tag for e in page.elements} & {"script", "link", "img", "iframe", "object", "embed", "base", "form"}
    ids = [e.attributes["id"] for e in page.elements if "id" in e.attributes]
    assert len(ids) == len(set(ids))
    for e in page.elements:
        assert not {"src", "srcset", "action", "data"} & set(e.attributes)
        assert not [name for name in e.attributes if name.startswith("on")]
        for name in ("href", "xlink:href"):
            if name in e.attributes:
                assert e.attributes[name].startswith("#")
                assert e.attributes[name][1:] in ids
