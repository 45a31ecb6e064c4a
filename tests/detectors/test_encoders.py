import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_array
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from sklearn_asd.detectors.encoders import embed_clips


def test_a_transformer_gives_rows_of_float64():
    X = np.array([[1, 2], [3, 4]], dtype=np.float32)
    embedding = embed_clips(FunctionTransformer(), X)
    assert embedding.dtype == np.float64
    embedding[:] = 0  # a copy
    assert X.tolist() == [[1, 2], [3, 4]]


def test_a_row_with_a_missing_number_is_one_of_a_clip_that_cannot_be_used():
    X = np.array([[1.0, np.nan], [3.0, 4.0]])
    assert np.isnan(embed_clips(FunctionTransformer(), X)).tolist() == [
        [True, True],
        [False, False],
    ]


def test_tables_that_transformers_give_are_taken():
    X = pd.DataFrame({"a": [0.0, 2.0], "b": [1.0, 5.0]})
    scaler = StandardScaler().set_output(transform="pandas").fit(X)
    assert embed_clips(scaler, X).tolist() == [[-1, -1], [1, 1]]


def test_sparse_rows_are_refused():
    encoder = FunctionTransformer(csr_array, accept_sparse=True)
    with pytest.raises(ValueError, match="Transformer.transform gave a csr_arr"):
        embed_clips(encoder, np.eye(2))
