"""A chat format as a Jinja template, for tokenizer_config.json: transformers, vLLM and others render with nothing else.

It renders to `Glm4Format.render_text`, in both forms of messages. What it cannot say is which letters are a user's: the
exported tokenizer sees to that (see `tokenization_chatglm`).
"""

from __future__ import annotations

import json

from ..chat.glm4 import VARIANTS
from ..chat.tool_texts import BUILTIN_TEXTS, CALL_AS_JSON, PREAMBLE

# What a picture's slots are written as: `chat.glm4` has them as ids.
_IMAGE = "<|begin_of_image|><|endoftext|><|end_of_image|>"

# @NAME@ is filled in by `template_of`. Every newline of the source lies beside a block that eats it.
_TEMPLATE = """\
{%- set builtin = @BUILTIN@ -%}
{%- macro declare(tools) -%}
    {{- @HEADER@ -}}
    {%- for tool in tools -%}
        {%- if tool['type'] in builtin -%}
            {{- @BEFORE_TOOL@ + '## ' + tool['type'] + '\\n\\n' + builtin[tool['type']] -}}
        {%- else -%}
            {%- set function = tool['function'] if tool['function'] is defined else tool -%}
            {{- @BEFORE_TOOL@ + '## ' + function['name'] + '\\n\\n' + function | tojson(indent=4) + '\\n' + @CALL@ -}}
        {%- endif -%}
    {%- endfor -%}
{%- endmacro -%}
{{- '[gMASK]<sop>' -}}
{%- if tools -%}
    {{- declare(tools) -}}
{%- endif -%}
{%- for item in messages -%}
    {%- if item['tools'] is defined and item['tools'] is not none and @DECLARES@ -%}
        {%- if tools and item['tools'] -%}
            {{- raise_exception('tools are given twice: in a message and as tools=; keep one of the two') -}}
        {%- endif -%}
        {{- declare(item['tools']) -}}
    {%- endif -%}
    {%- set roles = {'tool': 'observation', 'function': 'observation', 'developer': 'system'} -%}
    {%- set role = roles[item['role']] if item['role'] in roles else item['role'] -%}
    {%- if role not in ['system', 'user', 'assistant', 'observation'] -%}
        {{- raise_exception('a message has the role ' + item['role'] + ', which there is not') -}}
    {%- endif -%}
    {%- set metadata = item['metadata'] or '' -%}
    {%- set given = [item['content']] if item['content'] is string else item['content'] or [] -%}
    {%- set found = namespace(images=0, texts=[], placed='', after_text=false) -%}
    {%- if item['image'] is defined and item['image'] is not none -%}
        {%- set found.images = 1 -%}
        {%- set found.placed = @IMAGE@ -%}
    {%- endif -%}
    {%- for part in given -%}
        {%- if part is not string and part['type'] in ['image', 'image_url'] -%}
            {%- set found.images = found.images + 1 -%}
            {%- set found.placed = found.placed + @IMAGE@ -%}
            {%- set found.after_text = false -%}
        {%- else -%}
            {%- set text = part if part is string else part['text'] -%}
            {%- set found.texts = found.texts + [text] -%}
            {%- set found.placed = found.placed + ('\\n' if found.after_text else '') + text -%}
            {%- set found.after_text = true -%}
        {%- endif -%}
    {%- endfor -%}
    {%- if found.images and not @SHOWS_IMAGES@ -%}
        {{- raise_exception('a message has an image, and this checkpoint reads text only') -}}
    {%- endif -%}
    {#- A single picture stands in front, wherever the message has it. -#}
    {%- set content = @IMAGE@ * found.images + found.texts | join('\\n') if found.images < 2 else found.placed -%}
    {%- if content or (role == 'observation' and item['tool_call_id'] is defined and item['tool_call_id'] is not none)
            or (role == 'assistant' and metadata) -%}
        {{- '<|' + role + '|>' + metadata + '\\n' + content -}}
    {%- endif -%}
    {%- for call in item['tool_calls'] or [] -%}
        {%- set function = call['function'] if call['function'] is defined else call -%}
        {%- set arguments = function['arguments'] or ('' if function['name'] in builtin else '{}') -%}
        {%- set arguments = arguments if arguments is string else arguments | tojson -%}
        {{- '<|assistant|>' + function['name'] + '\\n' + arguments -}}
    {%- endfor -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{- '<|assistant|>' -}}
{%- endif -%}
"""


def template_of(chat_format: str) -> str:
    """The template of one of `chat.glm4.VARIANTS`."""
    variant = VARIANTS[chat_format]
    header = "<|system|>\n" + PREAMBLE.format(name=variant.assistant_name) + variant.heading
    values = {
        "BUILTIN": dict(BUILTIN_TEXTS),
        "HEADER": header,
        "BEFORE_TOOL": variant.before_tool,
        "CALL": CALL_AS_JSON,
        "IMAGE": _IMAGE,
    }
    text = _TEMPLATE
    for name, value in values.items():
        text = text.replace(f"@{name}@", json.dumps(value, ensure_ascii=False))
    text = text.replace("@DECLARES@", "true" if variant.header_for_no_tools else "item['tools']")
    return text.replace("@SHOWS_IMAGES@", "true" if variant.shows_images else "false")
