"""Show runs as a page: one HTML file that needs no other file and no network.

`write` drives it. `gather` collects what a page says of one run, `comparison` what it
says of several, and `page.html.j2` lays it out.
"""
