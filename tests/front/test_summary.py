import numpy as np
from front_inputs import small

from mopref.front.summary import summary_text


def test_the_interval_of_the_hypervolume_stands_only_beside_its_own_reference_point():
    front = small(metadata={"reference_point": [9.0, 9.0], "hypervolume_interval": [1.0, 2.0]})
    own = np.array([9.0, 9.0])
    assert "[1, 2]" in summary_text(front, front.indicators(), own, None)
    assert "[1, 2]" not in summary_text(front, front.indicators([10.0, 10.0]), own, None)
    assert summary_text(front, front.indicators(), own, None) == front.summary()
