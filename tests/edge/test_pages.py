from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from services.edge.adapters.pages import Files, static_dir
from tests.edge.conftest import Edge


async def test_every_answer_forbids_what_pages_of_others_could_do_with_it(edge: Edge) -> None:
    for path in ("/", "/healthz", "/no-such-page", "/metrics"):
        async with edge.http.get(edge.url + path) as response:
            policy = response.headers["Content-Security-Policy"]
            assert "default-src 'self'" in policy
            assert "frame-ancestors 'none'" in policy
            assert "unsafe" not in policy
            assert response.headers["X-Content-Type-Options"] == "nosniff"
            assert "Access-Control-Allow-Origin" not in response.headers
            assert "aiohttp" not in response.headers["Server"]


async def test_the_dashboard_is_served_and_its_parts_stay_in_the_cache(edge: Edge) -> None:
    async with edge.http.get(edge.url + "/") as response:
        page = await response.text()
        assert response.headers["Cache-Control"] == "no-cache"
    script = next(path.name for path in (static_dir / "assets").glob("index-*.js"))
    assert script in page
    async with edge.http.get(f"{edge.url}/assets/{script}") as response:
        assert response.headers["Content-Encoding"] == "gzip"
        assert "immutable" in response.headers["Cache-Control"]
        assert response.content_type in ("text/javascript", "application/javascript")


async def test_what_a_browser_has_already_is_not_sent_again(edge: Edge) -> None:
    async with edge.http.get(edge.url + "/") as response:
        tag = response.headers["ETag"]

    async with edge.http.get(edge.url + "/", headers={"If-None-Match": tag}) as response:
        assert response.status == 304


@pytest.mark.parametrize(
    "path", ["/../config.py", "/%2e%2e/config.py", "/..%2fconfig.py", "/assets/../../config.py"]
)
async def test_no_path_leads_out_of_the_dashboard(edge: Edge, path: str) -> None:
    async with edge.http.get(edge.url + path) as response:
        assert response.status == 404


async def test_pages_have_no_inline_script_or_style() -> None:
    for page in static_dir.rglob("*.html"):
        text = page.read_text("utf-8")
        assert "<style" not in text
        assert " style=" not in text
        assert " onclick" not in text
        assert text.count("<script") == text.count("<script src=") + text.count(
            '<script type="module"'
        ), page
        for tag in text.split("<script")[1:]:
            assert "src=" in tag.split(">")[0], page


async def test_alive_and_ready_are_two_questions(edge: Edge) -> None:
    async with edge.http.get(edge.url + "/healthz") as response:
        assert (response.status, await response.text()) == (200, "alive\n")
    async with edge.http.get(edge.url + "/readyz") as response:
        assert response.status == 200


def test_the_bundle_is_small_enough_for_a_phone() -> None:
    packed = sum(
        len(gzip.compress(path.read_bytes(), 9))
        for path in Path(static_dir).rglob("*")
        if path.is_file()
    )

    assert packed < 100_000
    assert len(Files()) >= 5
