"""A report of Snakemake, opened in Debian's Chromium and clicked through."""

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

CHROMEDRIVER = shutil.which("chromedriver")
PATIENCE = 30  # seconds


@contextmanager
def opened(page: Path) -> Iterator[webdriver.Chrome]:
    """The page in a browser without a window and without a network: what it needs, it must hold."""
    options = webdriver.ChromeOptions()
    for option in ("--headless=new", "--no-sandbox", "--window-size=1400,1000", "--proxy-server=127.0.0.1:9"):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(CHROMEDRIVER))
    try:
        driver.get(page.as_uri())
        yield driver
    finally:
        driver.quit()


def entries(driver: webdriver.Chrome) -> list[str]:
    """What the menu lists below its heading RESULTS, once it is there: links, unlike the first page beside it."""
    WebDriverWait(driver, PATIENCE).until(lambda found: "RESULTS" in _menu(found))
    links = {link.text.strip() for link in driver.find_elements(By.CSS_SELECTOR, "li a")}
    return [line for line in _menu(driver).split("RESULTS\n")[1].splitlines() if line.strip() in links]


def _menu(driver: webdriver.Chrome) -> str:
    return driver.find_element(By.TAG_NAME, "body").text


def open_category(driver: webdriver.Chrome, name: str) -> list[list[str]]:
    """Click a category of the menu; the cells of its table of results."""
    [entry] = [link for link in driver.find_elements(By.CSS_SELECTOR, "li a") if link.text.strip() == name]
    entry.click()
    WebDriverWait(driver, PATIENCE).until(lambda found: found.find_elements(By.CSS_SELECTOR, "tbody tr"))
    rows = driver.find_elements(By.CSS_SELECTOR, "tbody tr")
    return [[cell.text for cell in row.find_elements(By.TAG_NAME, "td")] for row in rows]


def show(driver: webdriver.Chrome, row: int, name: str) -> str:
    """Click the eye of a result and wait until it is shown whole: `picture` or `page`."""
    driver.find_elements(By.CSS_SELECTOR, "tbody tr")[row].find_element(By.CSS_SELECTOR, "a").click()
    whole = (
        "const shown = element => element.src.includes(`filename=${arguments[0]}`);"
        "const picture = [...document.images].find(shown);"
        "if (picture && picture.complete && picture.naturalWidth > 0) return 'picture';"
        "return [...document.querySelectorAll('iframe')].some(shown) ? 'page' : null;"
    )
    return WebDriverWait(driver, PATIENCE).until(lambda found: found.execute_script(whole, name))


def complaints(driver: webdriver.Chrome) -> list[str]:
    """What the console calls an error since it was last asked."""
    return [line["message"] for line in driver.get_log("browser") if line["level"] == "SEVERE"]


def main(page: Path, category: str, name: str, picture: Path) -> None:
    """Save the window with one result of a report open, as docs/report.png shows it."""
    with opened(page) as driver:
        entries(driver)
        rows = open_category(driver, category)
        row = next(i for i, cells in enumerate(rows) if cells[0] == name and not {"csv", "tex"} & {*cells})
        show(driver, row, name)
        driver.save_screenshot(str(picture))


if __name__ == "__main__":  # cd tests && python -m helpers.browser REPORT.html "1 Claims" quality docs/report.png
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], Path(sys.argv[4]))
