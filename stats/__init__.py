"""Arrays in, results out: the exact tests and the scores. Knows no files, no models, no opinions."""

from stats.axes import Axis as Axis
from stats.axes import is_exchangeable as is_exchangeable
from stats.axes import require_exchangeable as require_exchangeable
from stats.combine import combine_evalues as combine_evalues
from stats.combine import ebh as ebh
from stats.combine import family_level as family_level
from stats.combine import log_floor_of as log_floor_of
from stats.distance import PairSums as PairSums
from stats.distance import pair_sums as pair_sums
from stats.eprocess import EProcess as EProcess
from stats.eprocess import either_eprocess as either_eprocess
from stats.eprocess import permutation_eprocess as permutation_eprocess
from stats.matchcount import match_count as match_count
from stats.ordering import is_sorted_pair as is_sorted_pair
from stats.passing import Moments as Moments
from stats.passing import Pass as Pass
from stats.passing import one_pass as one_pass
from stats.rank import DeltaRank as DeltaRank
from stats.rank import delta_rank as delta_rank
from stats.residual import column_test as column_test
from stats.residual import gain_test as gain_test
from stats.result import Score as Score
from stats.result import Skipped as Skipped
from stats.result import TestResult as TestResult
from stats.units import UnitFeatures as UnitFeatures
from stats.units import unit_tests as unit_tests
