"""Softcopy presentation states: what one says of the images that it refers to (PS3.3 A.33).

A presentation state says everything: what it leaves out is left out of the picture, and
what the image itself says of windows, shutters and overlays does not hold (PS3.4 N.2).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from pacs import contexts, header
from pacs.header import Header
from pacs.render import colours, groups, looks, trees
from pacs.render.looks import Look, Table, usable_window
from pacs.render.options import Window
from pacs.render.shapes import MAX_POINTS, SHAPES
from pacs.render.showing import Area, Colour, Mark, Plane, Point, Showing, Shutter, Text
from pacs.render.trees import Tree
from storage.base.errors import Malformed, NotSupported

GREYSCALE: Final = "1.2.840.10008.5.1.4.1.1.11.1"
COLOUR: Final = "1.2.840.10008.5.1.4.1.1.11.2"
PSEUDO_COLOUR: Final = "1.2.840.10008.5.1.4.1.1.11.3"
_OF_GREY: Final = frozenset({GREYSCALE, PSEUDO_COLOUR})
"""Those that say how grey levels are to be seen."""
_ALL: Final = "1.2.840.10008.5.1.4.1.1.11."
MAX_BYTES: Final = 32 << 20
"""Of a presentation state."""
MAX_OBJECTS: Final = 5_000
MAX_PLANES: Final = 4_096
"""Frames of an overlay that are kept."""
MAX_TEXT: Final = 1024
"""Characters of a text (PS3.5 6.2, ST)."""

_WHITE: Final[Colour] = (255, 255, 255)
_OVERLAY_GROUPS: Final = range(0x6000, 0x6020, 2)
_ACTIVATION_LAYER: Final = 0x1001
_MAX_ASPECT: Final = 20.0
_MAX_MAGNIFICATION: Final = 100.0
_MAX_SHORT: Final = 65535
_QUARTER: Final = 90
_FULL_TURN: Final = 360
_PAIR: Final = 2
_FARTHEST: Final = 1e6

Frames = frozenset[int]
"""Numbers of frames; none: all."""
Selection = Mapping[str, Frames]
"""By SOP Instance UID: for which images something is said; none: for all."""


@dataclass(frozen=True, slots=True)
class Reference:
    """One image that is referred to."""

    series_instance_uid: str
    sop_instance_uid: str
    frames: tuple[int, ...] = ()
    """None: all."""


@dataclass(frozen=True, slots=True)
class Voi:
    """A window or VOI LUT for some of the images (PS3.3 C.11.8)."""

    images: Selection
    window: Window | None
    table: Table | None


@dataclass(frozen=True, slots=True)
class Layer:
    """One graphic layer (PS3.3 C.10.7)."""

    order: int
    ink: Colour


@dataclass(frozen=True, slots=True)
class Annotation:
    """Graphics and texts for some of the images (PS3.3 C.10.5)."""

    images: Selection
    marks: tuple[Mark, ...]
    texts: tuple[Text, ...]


@dataclass(frozen=True, slots=True)
class Presentation:
    """A softcopy presentation state."""

    sop_class_uid: str
    references: tuple[Reference, ...]
    slope: float
    intercept: float
    modality: Table | None
    vois: tuple[Voi, ...]
    inverse: bool
    table: Table | None
    """The presentation LUT."""
    tint: tuple[Table, Table, Table] | None
    """The palette that follows the VOI LUT, of a pseudo-color one."""
    base: Showing
    """What holds for all images."""
    areas: tuple[tuple[Selection, Area], ...]
    annotations: tuple[Annotation, ...]
    activations: Mapping[int, Layer] = field(default_factory=dict)
    """By the group of an overlay: where it is drawn."""
    planes: Mapping[int, tuple[Plane, ...]] = field(default_factory=dict)
    """By group: overlays in the presentation state itself, one for each frame."""

    @property
    def weight(self) -> int:
        """About how many kilobytes of memory it takes."""
        points = sum(len(mark.points) for one in self.annotations for mark in one.marks)
        bits = sum(len(plane.bits) for group in self.planes.values() for plane in group)
        return 1 + (len(self.references) + points) // 8 + bits // 1024

    def refers_to(self, sop_instance_uid: str, number: int) -> bool:
        """Return whether a frame, counted from 1, is one that it refers to."""
        return any(
            one.sop_instance_uid == sop_instance_uid and (not one.frames or number in one.frames)
            for one in self.references
        )

    def look(self, base: Look, sop_instance_uid: str, number: int) -> Look:
        """Return how the grey levels of a frame are to be seen."""
        if self.sop_class_uid not in _OF_GREY or base.image.samples > 1 or base.palette:
            return base
        voi = next((v for v in self.vois if _holds(v.images, sop_instance_uid, number)), None)
        look = replace(
            base,
            slope=self.slope,
            intercept=self.intercept,
            modality=self.modality,
            window=voi.window if voi else None,
            voi=voi.table if voi else None,
            inverse=self.inverse,
            presentation=self.table,
            tint=self.tint,
        )
        if look.window is None and look.voi is None and not look.floating:
            return replace(look, window=_full_range(look))
        return look

    def showing(
        self, sop_instance_uid: str, number: int, image: Mapping[int, tuple[Plane, ...]]
    ) -> Showing:
        """Return how a frame is to be seen; `image` are the overlays in the image, by group."""
        of = [a for a in self.annotations if _holds(a.images, sop_instance_uid, number)]
        areas = (area for held, area in self.areas if _holds(held, sop_instance_uid, number))
        planes = []
        for group, layer in self.activations.items():
            found = self.planes.get(group) or image.get(group, ())
            if plane := found[number - 1] if number <= len(found) else (found or (None,))[0]:
                planes.append(replace(plane, ink=layer.ink, order=layer.order))
        return replace(
            self.base,
            area=next(areas, None),
            planes=planes,
            marks=[mark for one in of for mark in one.marks],
            texts=[text for one in of for text in one.texts],
        )


def is_presentation(sop_class_uid: str) -> bool:
    """Return whether a SOP Class is a softcopy presentation state (PS3.4 B.5)."""
    return sop_class_uid.startswith(_ALL)


def read(dataset: bytes, transfer_syntax_uid: str) -> Presentation:
    """Read a presentation state.

    Raises
    ------
    NotSupported
        It is of a kind that is not drawn, or has more graphics than are drawn.
    Malformed
        Something in it is broken.
    """
    tree = trees.read(dataset, transfer_syntax_uid)
    uid = tree.text("SOPClassUID")
    if uid not in {*_OF_GREY, COLOUR}:
        raise NotSupported(f"a {contexts.name_of(uid).removesuffix(' Storage')} is not applied")
    found = header.scan(dataset, transfer_syntax_uid)
    layers = dict(_layers(tree))
    planes = overlays(found)
    modality = tree.item("ModalityLUTSequence")
    # a pseudo-color one has a palette where others have a presentation LUT (PS3.3 A.33.3)
    plain = uid != PSEUDO_COLOUR
    lut = tree.item("PresentationLUTSequence")
    return Presentation(
        uid,
        tuple(_references(tree)),
        tree.number("RescaleSlope") or 1.0,
        tree.number("RescaleIntercept") or 0.0,
        _table(modality),
        tuple(_vois(tree)),
        inverse=plain and tree.text("PresentationLUTShape") == "INVERSE",
        table=_table(lut) if plain else None,
        tint=None if plain else looks.palette(found),
        base=Showing(
            rotation=_rotation(tree),
            flipped=tree.text("ImageHorizontalFlip") == "Y",
            shutter=_shutter(tree, planes),
        ),
        areas=tuple(_areas(tree)),
        annotations=tuple(_annotations(tree, layers)),
        activations=dict(_activations(found, layers)),
        planes=planes,
    )


def overlays(found: Header) -> Mapping[int, tuple[Plane, ...]]:
    """Return the overlays of an object by their group, a plane for each frame (PS3.3 C.9.2)."""
    planes: dict[int, tuple[Plane, ...]] = {}
    for group in _OVERLAY_GROUPS:
        base = group << 16
        rows, columns = (found.number(base | element) for element in (0x0010, 0x0011))
        bits = found.value(base | 0x3000)
        area = rows * columns
        if not bits or not 0 < area <= _MAX_SHORT * _MAX_SHORT:
            continue
        told = min(max(1, found.number(base | 0x0015, 1)), MAX_PLANES)
        count = min(told, len(bits) * 8 // area)
        origin = [*map(_whole, found.text(base | 0x0050).split("\\")), 1, 1]
        planes[group] = tuple(
            Plane(rows, columns, origin[0] - 1, origin[1] - 1, _bits(bits, at * area, area), _WHITE)
            for at in range(count)
        )
    return planes


def _bits(packed: bytes, first: int, count: int) -> bytes:
    start, shift = divmod(first, 8)
    piece = packed[start : (first + count + 7) // 8]
    if not shift:
        return piece
    return (int.from_bytes(piece, "little") >> shift).to_bytes(len(piece), "little")


def _whole(text: str) -> int:
    try:
        return min(max(int(text), -_MAX_SHORT), _MAX_SHORT)
    except ValueError:
        return 1


def _holds(images: Selection, sop_instance_uid: str, number: int) -> bool:
    if not images:
        return True
    numbers = images.get(sop_instance_uid)
    return numbers is not None and (not numbers or number in numbers)


def _full_range(look: Look) -> Window:
    """Return the window that is the identity: all that the modality LUT can give (PS3.4 N.2.1)."""
    if look.modality is not None:
        low, high = 0.0, float((1 << look.modality.bits) - 1)
    else:
        signed = look.image.pixel_representation == 1
        count = 1 << look.image.bits_stored
        ends = (-(count // 2), count // 2 - 1) if signed else (0, count - 1)
        low, high = sorted(end * look.slope + look.intercept for end in ends)
    return Window((low + high) / 2, max(high - low, 1e-6), "LINEAR_EXACT")


# What stands where


def _references(tree: Tree) -> Iterator[Reference]:
    for series in tree.items("ReferencedSeriesSequence"):
        uid = series.text("SeriesInstanceUID")
        for one in series.items("ReferencedImageSequence"):
            yield Reference(uid, one.text("ReferencedSOPInstanceUID"), _frames(one))


def _frames(one: Tree) -> tuple[int, ...]:
    return tuple(int(number) for number in one.numbers("ReferencedFrameNumber"))


def _selection(item: Tree) -> Selection:
    return {
        one.text("ReferencedSOPInstanceUID"): frozenset(_frames(one))
        for one in item.items("ReferencedImageSequence")
    }


def _table(item: Tree) -> Table | None:
    return groups.table(item.attributes, item.source.value) if item.attributes else None


def _vois(tree: Tree) -> Iterator[Voi]:
    for item in tree.items("SoftcopyVOILUTSequence"):
        center, width = item.number("WindowCenter"), item.number("WindowWidth")
        window = None
        if center is not None and width is not None:
            function = item.text("VOILUTFunction") or "LINEAR"
            window = usable_window(Window(center, width, function))
        table = None if window else _table(item.item("VOILUTSequence"))
        yield Voi(_selection(item), window, table)


def _rotation(tree: Tree) -> int:
    degrees = int(tree.number("ImageRotation") or 0) % _FULL_TURN
    if degrees % _QUARTER:
        raise Malformed(f"(0070,0042) is {degrees}: no quarter of a turn")
    return degrees


def _areas(tree: Tree) -> Iterator[tuple[Selection, Area]]:
    for item in tree.items("DisplayedAreaSelectionSequence"):
        corners = (
            item.numbers("DisplayedAreaTopLeftHandCorner"),
            item.numbers("DisplayedAreaBottomRightHandCorner"),
        )
        if any(len(corner) < _PAIR for corner in corners):
            raise Malformed("(0070,005A): a displayed area without its corners")
        # with a rotation or flip, the corner at the top left is another one of the image
        (left, right), (top, bottom) = (
            sorted(_near(corner[at]) for corner in corners) for at in range(_PAIR)
        )
        magnification = 1.0
        if item.text("PresentationSizeMode") == "MAGNIFY":
            magnification = item.number("PresentationPixelMagnificationRatio") or 1.0
        magnification = min(max(magnification, 1 / _MAX_MAGNIFICATION), _MAX_MAGNIFICATION)
        yield (
            _selection(item),
            Area(left - 1, top - 1, right, bottom, _aspect(item), magnification),
        )


def _near(number: float) -> int:
    """Return a number as one that no picture is too large for."""
    return int(min(max(number, -_FARTHEST), _FARTHEST))


def _aspect(item: Tree) -> float:
    """Return the height of a pixel by its width."""
    for keyword in ("PresentationPixelSpacing", "PresentationPixelAspectRatio"):
        pair = item.numbers(keyword)
        if len(pair) >= _PAIR and pair[0] > 0 and pair[1] > 0:
            return min(max(pair[0] / pair[1], 1 / _MAX_ASPECT), _MAX_ASPECT)
    return 1.0


def _shutter(tree: Tree, planes: Mapping[int, tuple[Plane, ...]]) -> Shutter | None:
    shapes = tree.values("ShutterShape")
    if not shapes:
        return None
    shutter = Shutter(colours.cielab(tree, "ShutterPresentationColorCIELabValue") or _shade(tree))
    edges = [
        tree.number(f"Shutter{edge}Edge")
        for edge in ("LeftVertical", "UpperHorizontal", "RightVertical", "LowerHorizontal")
    ]
    if "RECTANGULAR" in shapes and None not in edges:
        left, top, right, bottom = (_near(edge or 0.0) for edge in edges)
        # what lies on an edge is seen
        shutter = replace(shutter, rectangle=(left - 1, top - 1, right, bottom))
    center, radius = tree.numbers("CenterOfCircularShutter"), tree.number("RadiusOfCircularShutter")
    if "CIRCULAR" in shapes and len(center) >= _PAIR and radius is not None:
        shutter = replace(shutter, circle=(center[1] - 1, center[0] - 1, radius))
    vertices = tree.numbers("VerticesOfThePolygonalShutter")[: 2 * MAX_POINTS]
    if "POLYGONAL" in shapes:
        pairs = zip(vertices[::2], vertices[1::2], strict=False)
        shutter = replace(shutter, polygon=tuple((column - 1, row - 1) for row, column in pairs))
    plane = planes.get(int(tree.number("ShutterOverlayGroup") or 0), ())
    if "BITMAP" in shapes and plane:
        shutter = replace(shutter, plane=plane[0])
    return shutter


def _shade(tree: Tree) -> Colour:
    return colours.grey(tree.number("ShutterPresentationValue") or 0.0)


def _layers(tree: Tree) -> Iterator[tuple[str, Layer]]:
    for item in tree.items("GraphicLayerSequence"):
        grey = item.number("GraphicLayerRecommendedDisplayGrayscaleValue")
        rgb = item.numbers("GraphicLayerRecommendedDisplayRGBValue")  # retired
        ink = colours.cielab(item, "GraphicLayerRecommendedDisplayCIELabValue")
        if ink is None and len(rgb) == len(_WHITE):
            red, green, blue = (colours.grey(one)[0] for one in rgb)
            ink = red, green, blue
        if ink is None:
            ink = _WHITE if grey is None else colours.grey(grey)
        yield item.text("GraphicLayer"), Layer(_near(item.number("GraphicLayerOrder") or 0.0), ink)


def _activations(found: Header, layers: Mapping[str, Layer]) -> Iterator[tuple[int, Layer]]:
    for group in _OVERLAY_GROUPS:
        name = found.text(group << 16 | _ACTIVATION_LAYER)
        if name:
            yield group, layers.get(name, Layer(0, _WHITE))


# Graphics


def _annotations(tree: Tree, layers: Mapping[str, Layer]) -> Iterator[Annotation]:
    objects = points = 0
    for item in tree.items("GraphicAnnotationSequence"):
        layer = layers.get(item.text("GraphicLayer"), Layer(0, _WHITE))
        marks = tuple(_mark(one, layer) for one in item.items("GraphicObjectSequence"))
        texts = tuple(_text(one, layer) for one in item.items("TextObjectSequence"))
        objects += len(marks) + len(texts)
        points += sum(len(mark.points) for mark in marks)
        if objects > MAX_OBJECTS or points > MAX_POINTS:
            raise NotSupported(f"more than {MAX_OBJECTS} graphics, or {MAX_POINTS} points in them")
        yield Annotation(_selection(item), marks, texts)


def _mark(item: Tree, layer: Layer) -> Mark:
    numbers = item.numbers("GraphicData")
    count = int(item.number("NumberOfGraphicPoints") or len(numbers) // _PAIR)
    if count < 1 or len(numbers) < _PAIR * count:
        raise Malformed("(0070,0022): fewer points than (0070,0021) tells of")
    if count > MAX_POINTS:
        raise NotSupported(f"a graphic of more than {MAX_POINTS} points")
    points = tuple(zip(numbers[: _PAIR * count : 2], numbers[1 : _PAIR * count : 2], strict=True))
    kind = item.text("GraphicType")
    shape = SHAPES.get(kind)
    if shape is None:
        raise NotSupported(f"a graphic of the type {kind or 'unknown'}")
    style = item.item("LineStyleSequence")
    return Mark(
        tuple(shape(points)),
        colours.cielab(style, "PatternOnColorCIELabValue") or layer.ink,
        in_display=item.text("GraphicAnnotationUnits") == "DISPLAY",
        filled=item.text("GraphicFilled") == "Y" and kind != "POINT",
        order=layer.order,
    )


def _text(item: Tree, layer: Layer) -> Text:
    corners = [
        _pair(item, "BoundingBoxTopLeftHandCorner"),
        _pair(item, "BoundingBoxBottomRightHandCorner"),
    ]
    box = None
    if corners[0] is not None and corners[1] is not None:
        box = corners[0], corners[1]
    anchor = _pair(item, "AnchorPoint")
    if box is None and anchor is None:
        raise Malformed("(0070,0008): a text without a place")
    return Text(
        item.text("UnformattedTextValue")[:MAX_TEXT],
        colours.cielab(item.item("TextStyleSequence"), "TextColorCIELabValue") or layer.ink,
        box=box,
        box_in_display=item.text("BoundingBoxAnnotationUnits") == "DISPLAY",
        anchor=anchor,
        anchor_in_display=item.text("AnchorPointAnnotationUnits") == "DISPLAY",
        pointing=item.text("AnchorPointVisibility") == "Y",
        justified=item.text("BoundingBoxTextHorizontalJustification"),
        order=layer.order,
    )


def _pair(item: Tree, keyword: str) -> Point | None:
    pair = item.numbers(keyword)
    return (pair[0], pair[1]) if len(pair) >= _PAIR else None
