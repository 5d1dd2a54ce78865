"""What the columns of a table are, and the exact way to numbers and back.

`Schema` knows the columns, `Column` is one of them. Containers are read into `cells`, `rules` say
what a column is, and `codec` turns cells into numbers and numbers into values; no other file
knows a container than ``pandas_table``, ``polars_table`` and, for arrays, ``tables``.
"""

from skvae.schema.columns import KINDS, Column
from skvae.schema.schema import Schema

__all__ = ["KINDS", "Column", "Schema"]
