"""Somebody at a browser: what they see and press, and what their browser asks for and complains about meanwhile."""

from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, Request, Response, ViewportSize

PHONE: ViewportSize = {"width": 320, "height": 640}
DESK: ViewportSize = {"width": 1280, "height": 900}
LOOKS: dict[str, tuple[Literal["light", "dark"], ViewportSize]] = {
    "light-desk": ("light", DESK),
    "light-phone": ("light", PHONE),
    "dark-desk": ("dark", DESK),
    "dark-phone": ("dark", PHONE),
}
PICTURED = ("light-desk", "dark-phone")
WAIT_MILLISECONDS = 30_000
MOST_TABS = 60
GRAVE = ("serious", "critical")


class Visit:
    """One window, in which no script runs. `complaints` are the errors that the browser's console tells of, `foreign`
    what was asked of others than us and Stripe, `unprotected` the pages that came without our policy."""

    def __init__(self, browser: Browser, base_url: str, stripe_url: str, artefacts: Path) -> None:
        self.base_url = base_url
        self.complaints: list[str] = []
        self.foreign: list[str] = []
        self.unprotected: list[str] = []
        self._hosts = {urlsplit(base_url).netloc, urlsplit(stripe_url).netloc}
        self._artefacts = artefacts
        self._axes = browser.new_context()
        self._context = browser.new_context(base_url=base_url, java_script_enabled=False, viewport=DESK)
        self._context.set_default_timeout(WAIT_MILLISECONDS)
        self._context.on("request", self._asked)
        self._context.on("response", self._answered)
        self._context.on("console", self._complained)
        self.page = self._context.new_page()

    def close(self) -> None:
        """Closes the window. Whatever it was for, nothing came from elsewhere and no rule was broken."""
        self._axes.close()
        self._context.close()
        assert self.complaints == []
        assert self.foreign == []
        assert self.unprotected == []

    def go(self, address: str) -> None:
        self.page.goto(address)

    def fill(self, **typed: str) -> None:
        """Types into fields, by their ids."""
        for name, value in typed.items():
            self.page.fill(f"#{name}", value)

    def press(self, name: str) -> None:
        """A button, by what is written on it; waits for the page that it leads to."""
        with self.page.expect_navigation():
            self.page.get_by_role("button", name=name, exact=True).click()

    def follow(self, name: str) -> None:
        """A link, by its text."""
        with self.page.expect_navigation():
            self.page.get_by_role("link", name=name, exact=True).first.click()

    def reload(self) -> Self:
        self.page.reload()
        return self

    def figure(self, name: str) -> str:
        """The value of a figure, without the small print, by its name."""
        value = self.main.locator("dl.figures > div").filter(has=self.page.get_by_text(name, exact=True)).locator("dd")
        return value.inner_text().partition("\n")[0].strip()

    def focused(self) -> str:
        """What is written on what has the keyboard, which one sees it has."""
        focused = self.page.locator(":focus")
        assert self.page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        return focused.inner_text().strip()

    def tab_to(self, name: str) -> None:
        """Presses Tab until the link or button with this text has the keyboard."""
        for _ in range(MOST_TABS):
            self.page.keyboard.press("Tab")
            if self.page.locator(":focus").count() and self.focused() == name:
                return
        raise AssertionError(f"Tab does not come to {name!r}")

    @property
    def title(self) -> str:
        return self.page.title().removesuffix(" · Batchyard")

    @property
    def path(self) -> str:
        return urlsplit(self.page.url).path

    @property
    def main(self) -> Locator:
        return self.page.locator("main")

    def says(self, text: str) -> bool:
        """Whether the page's own part has this text."""
        return text in self.main.inner_text()

    def screenshot(self, name: str) -> None:
        self._artefacts.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=self._artefacts / f"{name}.png", full_page=True)

    def look(self, name: str) -> list[str]:
        """Looks at the page as it is on a phone and at a desk, in light and dark, and keeps two pictures of it: what
        keeps somebody from using it, by axe's word and ours."""
        problems = [] if self.title and self.page.locator("h1").count() == 1 else ["its title, or its main heading"]
        copy = self._copy()
        for look, (scheme, size) in LOOKS.items():
            for page in (self.page, copy):
                page.emulate_media(color_scheme=scheme)
                page.set_viewport_size(size)
            if look in PICTURED:
                self.screenshot(f"{name}-{look}")
            if self.page.evaluate("document.documentElement.scrollWidth > window.innerWidth"):
                problems.append(f"{look}: it is wider than its window")
            problems += [f"{look}: {finding}" for finding in _findings(copy)]
        copy.close()
        return [f"{name} {problem}" for problem in problems]

    def _copy(self) -> Page:
        """The page in a window where axe, which is a script, may run."""
        address, shown = self.page.url, self.page.content()
        copy = self._axes.new_page()
        copy.route(address, lambda route: route.fulfill(body=shown, content_type="text/html; charset=utf-8"))
        copy.goto(address)
        copy.evaluate(_axe())
        return copy

    def _asked(self, request: Request) -> None:
        if urlsplit(request.url).netloc not in self._hosts:
            self.foreign.append(request.url)

    def _answered(self, response: Response) -> None:
        is_document = response.request.resource_type == "document" and response.status not in (301, 302, 303, 307)
        if is_document and "default-src 'none'" not in response.headers.get("content-security-policy", ""):
            self.unprotected.append(response.url)

    def _complained(self, message: ConsoleMessage) -> None:
        # That a form was refused, the browser tells as an error too.
        if message.type == "error" and not message.text.startswith("Failed to load resource"):
            self.complaints.append(message.text)


def _findings(page: Page) -> list[str]:
    found: dict[str, Any] = page.evaluate("axe.run({ resultTypes: ['violations'] })")
    return [
        f"{violation['id']}: {node['html']}"
        for violation in found["violations"]
        if violation["impact"] in GRAVE
        for node in violation["nodes"]
    ]


@cache
def _axe() -> str:
    return (files("axe_playwright_python") / "axe.min.js").read_text("utf-8")
