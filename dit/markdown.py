"""Tables in Markdown, for documents that are written by tools."""

from collections.abc import Collection, Mapping, Sequence

Row = Mapping[str, str]
"""Column -> cell."""


def markdown_table(rows: Sequence[Row], *, code: Collection[str] = ()) -> str:
    """Return a table of rows; a column that a row lacks is empty there, and the cells of those in `code` are code."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    lines = [columns, ["---"] * len(columns)]
    lines += [[f"`{row[column]}`" if column in code else row.get(column, "") for column in columns] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def between_markers(document: str, name: str, content: str) -> str:
    """Return a document with this between its markers `<!-- NAME -->` and `<!-- /NAME -->`, in place of what was."""
    before, _, rest = document.partition(f"<!-- {name} -->")
    _, _, after = rest.partition(f"<!-- /{name} -->")
    return f"{before}<!-- {name} -->\n\n{content}\n\n<!-- /{name} -->{after}"
