"""Documents as people read them. A view never computes: it only words what the document says."""

from lineage.report.compare import compare_text as compare_text
from lineage.report.index import index_text as index_text
from lineage.report.trace import trace_text as trace_text
from lineage.report.tree import tree_text as tree_text
