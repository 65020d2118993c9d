"""Show runs as a page: one HTML file that needs no other file and no network.

`write` drives it. `gather` says what is known of a run, `comparison` of several, and
`page.html.j2` how it is laid out.
"""
