"""Somebody at a browser: what they see and press, and what their browser asks for and complains about meanwhile."""

from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from playwright.sync_api import Browser, ConsoleMessage, Locator, Request, Response

PHONE = {"width": 320, "height": 640}
DESKTOP = {"width": 1280, "height": 900}
WAIT_MILLISECONDS = 30_000
GRAVE = ("serious", "critical")


class Visit:
    """One window, in which no script runs. `complaints` are the errors that the browser's console tells of, `foreign`
    what was asked of others than us and Stripe, `unprotected` the pages that came without our policy."""

    def __init__(
        self, browser: Browser, base_url: str, stripe_url: str, artefacts: Path, *, dark: bool, phone: bool
    ) -> None:
        self.base_url = base_url
        self.complaints: list[str] = []
        self.foreign: list[str] = []
        self.unprotected: list[str] = []
        self._hosts = {urlsplit(base_url).netloc, urlsplit(stripe_url).netloc}
        self._artefacts = artefacts
        self._looks: Any = {
            "color_scheme": "dark" if dark else "light",
            "viewport": PHONE if phone else DESKTOP,
        }
        self._browser = browser
        self._context = browser.new_context(base_url=base_url, java_script_enabled=False, **self._looks)
        self._context.set_default_timeout(WAIT_MILLISECONDS)
        self._context.on("request", self._asked)
        self._context.on("response", self._answered)
        self._context.on("console", self._complained)
        self.page = self._context.new_page()

    def close(self) -> None:
        """Closes the window. Whatever it was for, nothing came from elsewhere and no rule was broken."""
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

    def findings(self) -> list[str]:
        """What axe finds of the page that keeps somebody from using it. It is a script itself, and gets a copy of the
        page in a window where it may run."""
        address, shown = self.page.url, self.page.content()
        with self._browser.new_context(**self._looks) as context:
            copy = context.new_page()
            copy.route(address, lambda route: route.fulfill(body=shown, content_type="text/html; charset=utf-8"))
            copy.goto(address)
            copy.evaluate(_axe())
            found: dict[str, Any] = copy.evaluate("axe.run({ resultTypes: ['violations'] })")
        return [
            f"{violation['id']}: {node['html']}"
            for violation in found["violations"]
            if violation["impact"] in GRAVE
            for node in violation["nodes"]
        ]

    def is_wider_than_its_window(self) -> bool:
        return bool(self.page.evaluate("document.documentElement.scrollWidth > window.innerWidth"))

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


@cache
def _axe() -> str:
    return (files("axe_playwright_python") / "axe.min.js").read_text("utf-8")
