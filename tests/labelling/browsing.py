"""A Chromium that a test types into; tests skip where there is none."""

import os
import pathlib
import shutil
import subprocess

import pytest

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)


class Browser:
    """A window and what a person can do in it, with words for tests.

    Args:
      profile: folder of the browser's own files.
      address: of the server.
    """

    def __init__(self, profile: pathlib.Path, address: str):
        from selenium import webdriver
        from selenium.webdriver.chrome.options import Options
        from selenium.webdriver.chrome.service import Service

        options = Options()
        options.binary_location = chromium()
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        driver = shutil.which("chromedriver")
        self.driver = webdriver.Chrome(options=options, service=Service(driver))
        self.address = address
        self.look()

    def look(self, width: int = 1280, height: int = 900, *, dark: bool = False):
        """Another size of the window, light or dark."""
        media = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        call = self.driver.execute_cdp_cmd
        call("Emulation.setEmulatedMedia", {"features": [media]})
        size = {"width": width, "height": height, "deviceScaleFactor": 1}
        call("Emulation.setDeviceMetricsOverride", {**size, "mobile": width < 600})

    def open(self, path: str) -> None:
        self.driver.get(self.address + path)

    def sign_in(self, token: str) -> None:
        """By the invitation's address."""
        self.open(f"/login#{token}")
        self.until("location.pathname !== '/login'")

    def run(self, script: str):
        return self.driver.execute_script(script)

    def value(self, expression: str):
        return self.run(f"return {expression}")

    def until(self, expression: str, seconds: float = 20):
        """Waits for an expression of the page to be true; its value."""
        from selenium.common.exceptions import TimeoutException
        from selenium.webdriver.support.ui import WebDriverWait

        try:
            return WebDriverWait(self.driver, seconds, 0.03).until(
                lambda _: self.value(expression)
            )
        except TimeoutException:
            raise AssertionError(f"never: {expression}\n{self.text()}") from None

    def text(self) -> str:
        return self.value("document.body.innerText")

    def press(self, *keys: str) -> None:
        """Keys, one after the other, to whatever has the focus."""
        from selenium.webdriver.common.action_chains import ActionChains

        actions = ActionChains(self.driver)
        for key in keys:
            actions.send_keys(key)
        actions.perform()

    def chord(self, held: str, key: str) -> None:
        from selenium.webdriver.common.action_chains import ActionChains

        ActionChains(self.driver).key_down(held).send_keys(key).key_up(held).perform()

    def task(self, other_than: str | None = None) -> str:
        """The task on the page, when it is another one and ready."""
        self.until(
            "document.getElementById('task')?.dataset.task"
            f" && document.getElementById('task').dataset.task !== '{other_than}'"
            " && !document.getElementById('task').hasAttribute('aria-busy')"
        )
        return self.value("document.getElementById('task').dataset.task")

    def saved(self) -> None:
        """Waits until the draft is with the server."""
        self.until("!Object.keys(localStorage).some((key) => key.startsWith('draft-'))")

    def connected(self, on: bool) -> None:
        self.driver.set_network_conditions(
            offline=not on, latency=0, throughput=10_000_000
        )

    def complaints(self) -> list[str]:
        """What the browser's console has to complain of."""
        lines = self.driver.get_log("browser")
        return [line["message"] for line in lines if line["level"] == "SEVERE"]

    def close(self) -> None:
        self.driver.quit()


def chromium() -> str | None:
    """Where Chromium is, if anywhere."""
    named = os.environ.get("CHROMIUM_PATH")
    return named or shutil.which("chromium") or shutil.which("chromium-browser")


def require_chromium() -> None:
    """Skips, with the reason, where no browser can be driven."""
    pytest.importorskip("selenium", reason="selenium is not installed")
    if not chromium() or not shutil.which("chromedriver"):
        pytest.skip("Chromium is absent (Debian: chromium, chromium-driver)")


def axe(folder: pathlib.Path) -> str:
    """The source of axe-core from npm; skips where it cannot be had."""
    if not shutil.which("npm"):
        pytest.skip("npm is absent, so is axe-core")
    command = ["npm", "pack", "axe-core", "--silent"]
    made = subprocess.run(command, cwd=folder, capture_output=True, timeout=120)
    archives = list(folder.glob("axe-core-*.tgz"))
    if made.returncode or not archives:
        pytest.skip("axe-core cannot be had from npm here")
    shutil.unpack_archive(archives[0], folder)
    return (folder / "package" / "axe.min.js").read_text()
