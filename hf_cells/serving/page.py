"""The page /docs: the routes of the OpenAPI description, and a form to try them; it fetches nothing from elsewhere."""

import json
from typing import Any

from jinja2 import Environment

_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ info.title }}</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 52rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
pre { background: #f4f4f4; padding: .7rem; overflow: auto; font-size: 14px; margin: .5rem 0 }
h2 { margin: 2rem 0 .3rem; border-top: 1px solid #ccc; padding-top: 1rem }
code, pre, h2 span { font-family: ui-monospace, monospace } h2 small { font-weight: normal; color: #555 }
td { padding: .15rem 1rem .15rem 0; vertical-align: top } p.intro { white-space: pre-wrap }
form > * { margin: .2rem .4rem .2rem 0 }
</style></head><body>
<h1>{{ info.title }}</h1>
<p>Version {{ info.version }}. The same for programs: <a href="openapi.json">openapi.json</a>.</p>
<pre>{{ info.description.strip() }}</pre>
<form id="try"><b>Try it:</b>
<input type="file" id="file" required aria-label="image">
<select id="route" aria-label="route"><option>/predict</option><option>/</option></select>
<input id="query" placeholder="{{ hint }}" aria-label="parameters"><button>Send</button></form>
<pre id="answer" hidden></pre>
{% for path, verbs in paths.items() %}{% for verb, route in verbs.items() %}
<h2><span>{{ verb.upper() }} {{ path }}</span> <small>{{ route.summary }}</small></h2>
{% if route.description %}<p>{{ route.description }}</p>{% endif %}
{% if route.requestBody %}{% set kinds = route.requestBody.content %}
<p>Body: {% for kind in kinds if kind != "application/json" %}<code>{{ kind }}</code>, {% endfor -%}
the file itself; or <code>application/json</code>:</p>
<pre>{{ pretty(kinds["application/json"].example) }}</pre>
<table>{% for name, about in kinds["application/json"].schema.properties.parameters.properties.items() %}
<tr><td><code>{{ name }}</code></td><td>{{ about.description }}
{% if about.enum %}One of {{ about.enum | join(", ") }}.{% endif %}</td></tr>{% endfor %}</table>
<p>Answer:</p><pre>{{ pretty(route.responses["200"].content["application/json"].example) }}</pre>
<table>{% for status, about in route.responses.items() if status not in ("200", "422") or about.content -%}
{% if status != "200" %}<tr><td>{{ status }}</td><td>{{ about.description }}</td></tr>{% endif %}
{%- endfor %}</table>{% endif %}
{% endfor %}{% endfor %}
<script>
const short = (key, value) => typeof value === "string" && value.length > 200
  ? value.slice(0, 40) + "… (" + value.length + " characters)" : value;
document.getElementById("try").addEventListener("submit", async (event) => {
  event.preventDefault();
  const field = (id) => document.getElementById(id), answer = field("answer");
  answer.hidden = false;
  answer.textContent = "…";
  try {
    const address = "." + field("route").value + (field("query").value ? "?" + field("query").value : "");
    const response = await fetch(address, { method: "POST", body: field("file").files[0] });
    answer.textContent = response.status + "\\n" + JSON.stringify(await response.json(), short, 1);
  } catch (error) { answer.textContent = String(error); }
});
</script></body></html>
"""


def render_page(schema: dict[str, Any], hint: str) -> str:
    """Return the page of an OpenAPI description.

    Args:
        schema: The description.
        hint: Example of parameters for the form, such as "top_k=3".
    """
    template = Environment(autoescape=True, trim_blocks=True).from_string(_PAGE)
    return template.render(info=schema["info"], paths=schema["paths"], pretty=_pretty, hint=hint)


def _pretty(example: Any) -> str:
    return json.dumps(example, indent=1, ensure_ascii=False)
