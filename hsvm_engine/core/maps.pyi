import numpy as np
import numpy.typing as npt

def dominant(owners: npt.NDArray[np.uint16], width: int, height: int) -> npt.NDArray[np.uint16]:
    """Owner slot that has most frames of each cell, shape (height, width); ties go to the lowest slot. (section 11)

    owners  owner slot of every frame, as `Machine.ownership()` gives it

    Cell i, counted row by row, covers frames [i * n // cells, (i + 1) * n // cells). ValueError names a side that is
    no integer of 1 or more, or says that there are more cells than frames.
    """
