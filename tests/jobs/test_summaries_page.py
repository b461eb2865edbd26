"""The page of examples/summaries in a browser: streaming, a reload, a cancellation, the log of webhooks."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from playwright.async_api import Page, async_playwright, expect

from support.binaries import chromium
from support.job_scene import JobScene
from support.llm_scene import LlmScene
from support.llm_server import LlmServer
from support.ports import free_port
from support.wait import eventually
from support.webhook_receiver import receiving
from support.workers import IMPORT_PATH, ROOT, WorkerProcess

PATIENCE = 60_000.0  # milliseconds, for each thing that is waited for
PATH = [ROOT / "examples" / "summaries", *IMPORT_PATH]
HOSTILE = "<img src=x onerror=alert(1)> "
LOCAL = '["127.0.0.0/8", "::1/128"]'
QUIETLY = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking"]


@asynccontextmanager
async def browsing() -> AsyncIterator[Page]:
    """A page of a browser that fails the test when its script does."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium(), args=QUIETLY)
        page = await browser.new_page()
        page.set_default_timeout(PATIENCE)
        problems: list[str] = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("dialog", lambda dialog: problems.append(dialog.message))
        yield page
        await browser.close()
        assert problems == []


def start(scene: LlmScene, name: str, command: list[str] | None = None) -> WorkerProcess:
    """Start a process of the example."""
    env = {
        "DATABASE_URL": scene.jobs.postgres_url,
        "WEBHOOK_ALLOWED_NETWORKS": LOCAL,
        **scene.environment(),
        **scene.jobs.settings,
    }
    process = WorkerProcess(name, env, command=command, import_path=PATH).start()
    scene.jobs.workers.append(process)
    return process


async def submit(page: Page, title: str, before: str = "") -> str:
    """Submit a document; the id of its job, which is not the one from `before`."""
    await page.fill("[name=title]", title)
    await page.fill("[name=body]", f"{HOSTILE} {title}")
    await page.click("#submit button")
    await expect(page.locator("#id")).not_to_have_text(before, timeout=PATIENCE)
    return await page.inner_text("#id")


async def test_submit_reload_cancel_and_the_log(jobs: JobScene) -> None:
    tokens = (HOSTILE, *(f"word-{number} " for number in range(8)))
    async with LlmServer(tokens=tokens) as model, receiving() as receiver, browsing() as page:
        scene = LlmScene(jobs, model)
        port = free_port()
        command = [sys.executable, "-m", "uvicorn", "app.with_summaries:app", "--port", str(port)]
        api = start(scene, "api", [*command, "--timeout-graceful-shutdown", "1"])
        worker = start(scene, "llm_jobs")
        await api.until_ready(url=f"http://127.0.0.1:{port}/health")
        await worker.until_ready()
        await page.goto(f"http://127.0.0.1:{port}/page")

        # Given an endpoint
        await page.fill("[name=url]", receiver.url)
        await page.click("#endpoint button")
        await expect(page.locator("#secret")).to_contain_text("whsec_", timeout=PATIENCE)
        secret = (await page.inner_text("#secret")).rpartition(" ")[2]

        # When the page is loaded again in the middle of a stream
        model.pause = 0.5
        first = await submit(page, "first")
        await expect(page.locator("#text")).to_contain_text("word-1", timeout=PATIENCE)
        await page.reload()
        assert await page.inner_text("#id") == first
        # Then it goes on, from the first word to the last
        await expect(page.locator("#state")).to_have_text("succeeded", timeout=PATIENCE)
        assert await page.locator("#text").text_content() == "".join(tokens)
        assert await page.locator("img").count() == 0

        # And the webhook is in the log
        row = page.locator("#log tr")
        await expect(row).to_contain_text("document.summarised", timeout=PATIENCE)
        await expect(row.locator("td").nth(2)).to_have_text("succeeded", timeout=PATIENCE)
        await expect(row.locator("td").nth(4)).to_have_text("204", timeout=PATIENCE)
        receiver.got[0].verify(secret)
        assert first in receiver.got[0].body.decode()
        # And it can be sent again
        await row.locator("button").click()
        await eventually(lambda: len(receiver.got) == 2, 60)
        assert receiver.got[0].id == receiver.got[1].id

        # When another job is cancelled in the middle
        model.tokens *= 100
        await submit(page, "second", first)
        await expect(page.locator("#text")).to_contain_text("onerror", timeout=PATIENCE)
        await page.click("#cancel")
        # Then it ends, and the model is no longer listened to
        await expect(page.locator("#state")).to_have_text("cancelled", timeout=PATIENCE)
        await eventually(lambda: model.in_flight == 0, 30)
        await jobs.until_state("succeeded", 3)
        assert await jobs.states() == {"succeeded": 3, "cancelled": 1}
