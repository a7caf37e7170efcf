import pytest

from pacs.render import options
from pacs.render.options import Options, Viewport, Window
from storage.base.errors import Malformed


@pytest.mark.parametrize(
    ("parameters", "read"),
    [
        ({}, Options()),
        ({"window": "40,400,linear"}, Options(Window(40, 400))),
        ({"window": "40,400,linear-exact"}, Options(Window(40, 400, "LINEAR_EXACT"))),
        ({"window": "0.5,0.25,sigmoid"}, Options(Window(0.5, 0.25, "SIGMOID"))),
        ({"window": "40,400"}, Options(Window(40, 400))),
        ({"viewport": "100,50"}, Options(viewport=Viewport(100, 50))),
        (
            {"viewport": "100,50,1,2,-3,-4"},
            Options(
                viewport=Viewport(100, 50, (1, 2, 3, 4), flip_horizontal=True, flip_vertical=True)
            ),
        ),
        ({"viewport": "100,50,,,,"}, Options(viewport=Viewport(100, 50, (0, 0, 0, 0)))),
        ({"quality": "1", "other": "x"}, Options(quality=1)),
        ({"annotation": "technique, patient"}, Options(annotation=("patient", "technique"))),
        ({"annotation": ""}, Options()),
    ],
)
def test_parameters_are_read(parameters, read):
    assert options.read(parameters) == read


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("window", "40"),
        ("window", "a,400"),
        ("window", "40,0.5,linear"),
        ("window", "40,0,sigmoid"),
        ("window", "40,400,cubic"),
        ("window", "nan,400"),
        ("window", "40,inf"),
        ("annotation", "patient,everything"),
        ("viewport", "0,10"),
        ("viewport", "10,100000"),
        ("viewport", "10,10,1,1"),
        ("viewport", "10,10,-1,0,5,5"),
        ("viewport", "x,10"),
        ("quality", "0"),
        ("quality", "101"),
        ("quality", "1e2"),
        ("quality", "٩"),
    ],
)
def test_what_cannot_be_is_named(name, value):
    with pytest.raises(Malformed, match=name):
        options.read({name: value})
