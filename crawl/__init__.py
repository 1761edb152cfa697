"""Bytes of models: where they are, what they mean, and nothing about what follows from them.

`open_model` opens a folder, a weight file or a Hub id and gives a `WeightSource`: tensors as they are stored, views of
them by role, and reads that fetch and count exactly the bytes asked for.
"""

from crawl.architectures import Row as Row
from crawl.card import ModelCard as ModelCard
from crawl.dtypes import DTYPES as DTYPES
from crawl.dtypes import DType as DType
from crawl.errors import AmbiguousModelError as AmbiguousModelError
from crawl.errors import CrawlError as CrawlError
from crawl.errors import GatedModelError as GatedModelError
from crawl.errors import MalformedHeaderError as MalformedHeaderError
from crawl.errors import MissingShardError as MissingShardError
from crawl.errors import ModelNotFoundError as ModelNotFoundError
from crawl.errors import NetworkError as NetworkError
from crawl.errors import TruncatedError as TruncatedError
from crawl.errors import UnsafePathError as UnsafePathError
from crawl.errors import UnsupportedDtypeError as UnsupportedDtypeError
from crawl.errors import UnsupportedFormatError as UnsupportedFormatError
from crawl.opening import open_model as open_model
from crawl.opening import open_store as open_store
from crawl.options import OpenOptions as OpenOptions
from crawl.refs import ByteRange as ByteRange
from crawl.refs import ModelRef as ModelRef
from crawl.refs import Role as Role
from crawl.refs import TensorRef as TensorRef
from crawl.roles import Architecture as Architecture
from crawl.source import WeightSource as WeightSource
from crawl.stores import ByteStore as ByteStore
from crawl.stores import CountingStore as CountingStore
from crawl.views import Pick as Pick
from crawl.views import View as View
from crawl.vocabulary import Vocabulary as Vocabulary
from crawl.walk import find_models as find_models
from crawl.walk import sets_in as sets_in
