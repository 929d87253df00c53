"""The pages and the requests of the labelling server.

app        FastAPI application, errors as pages or JSON
guards     headers, sizes, rates: what holds for every request
sessions   who asks, and whether the request comes from our own page
work       the labeler's side
research   the researcher's pages; research_forms: what they change
machine    the pipeline's side, by token instead of cookie
views      what the browser is told of a task and of one's progress
pages/     Jinja2 templates; static/: ES modules and one style sheet
"""
