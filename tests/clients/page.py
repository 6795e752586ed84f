"""Tries the models in a browser, as a person does, and prints what the page shows as one JSON object.

    page.py URL CHROMIUM FOLDER [MODEL=PICTURE|MODEL=TEXT…]

For each model: a picture is given to the file field, a text is typed into the first field (and, when it
holds " | ", what follows goes into the second, one a line). Screenshots go to FOLDER, named by the model;
dark.png is the last one in dark colours.
"""

import json
import pathlib
import sys

from playwright.sync_api import sync_playwright

# Above what a model on a busy machine takes.
PATIENCE_MS = 60_000


def tried(page, given):
    if pathlib.Path(given).is_file():
        page.set_input_files("input[type=file]", given)
    else:
        first, *rest = given.split(" | ")
        fields = page.locator("main textarea")
        if given:
            fields.nth(0).fill(first)
        if rest:
            fields.nth(1).fill("\n".join(rest))
        page.click("form button")
    page.wait_for_selector(".answer > :not(.soft)", timeout=PATIENCE_MS)
    return {
        "whole": page.locator(".answer .whole").all_inner_texts(),
        "rows": [row.split("\n") for row in page.locator(".answer li").all_inner_texts()],
        "boxes": page.locator(".stage polygon").count(),
        "raw": page.locator(".answer pre").all_inner_texts(),
        "error": page.locator(".answer .error").all_inner_texts(),
        "took": page.locator("#took").inner_text(),
    }


def main(url, chromium, folder, *asked):
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        )
        page = browser.new_page(viewport={"width": 1100, "height": 760})
        page.set_default_timeout(PATIENCE_MS)
        trouble, addresses = [], set()
        page.on("pageerror", lambda error: trouble.append(str(error)))
        page.on("console", lambda line: line.type == "error" and trouble.append(line.text))
        page.on("request", lambda request: addresses.add(request.url))
        page.goto(url)
        page.wait_for_selector("nav button")
        seen = {"tabs": page.locator("nav button").all_inner_texts(), "tried": []}
        for one in asked:
            model, given = one.split("=", 1)
            page.click(f'nav button[data-model="{model}"]')
            seen["tried"].append(tried(page, given))
            page.screenshot(path=f"{folder}/{model}.png")
        page.emulate_media(color_scheme="dark")
        page.screenshot(path=f"{folder}/dark.png")
        browser.close()
    seen["trouble"] = trouble
    seen["elsewhere"] = sorted(a for a in addresses if not a.startswith((url, "blob:", "data:")))
    print(json.dumps(seen, ensure_ascii=False))


if __name__ == "__main__":
    main(*sys.argv[1:])
