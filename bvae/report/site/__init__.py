"""The results page: all published studies in one HTML file that needs no network, written by `make site`.

publications.py reads the folders, numbers.py makes the rows of the page from them, charts.py says how they are drawn,
page.py joins it all. page.html, page.css and page.js are the page; vendor/ holds Vega, Vega-Lite and Vega-Embed.
"""
