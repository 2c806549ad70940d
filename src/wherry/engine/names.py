"""Names for containers that got none: an adjective and the surname of someone worth remembering.

Docker's form (`quirky_noether`), our own lists.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from wherry.lib.words import words

ADJECTIVES = words(
    "able airy amber ample apt artful astute awake balmy blithe bold brave breezy bright brisk bubbly calm candid"
    " careful cheery clear clever cosy crisp curious dapper daring deft dewy eager early earnest easy fair fearless"
    " fine fleet fluent fond free fresh gentle gifted glad gleaming golden graceful grand handy hardy hearty honest"
    " humble jaunty jolly keen kind lively loyal lucid lucky lunar mellow merry mild mindful modest neat nimble noble"
    " novel patient peppy placid plucky polite prompt proper proud quick quiet quirky radiant rapid ready rosy"
    " rustic sage serene sharp shiny silent smooth snug sober solid spry stable steady sterling stoic sturdy subtle"
    " sunny sure swift tidy tranquil trusty upbeat urbane valiant vivid warm wise witty zesty"
)

SURNAMES = words(
    "abel adams agnesi alkindi anning archimedes aryabhata avicenna babbage banneker bardeen bartik bell berners"
    " bernoulli bhabha blackwell bohr boole borg bose boyle brahmagupta burnell cannon carson carver cauchy cayley"
    " chandrasekhar chatelet clarke conway cori cray curie darwin davy dijkstra dirac earhart easley edison"
    " einstein elion engelbart euclid euler faraday fermat fermi feynman fibonacci franklin galileo galois gauss"
    " germain goeppert goldberg goodall hamilton hawking heisenberg hellman herschel hertz hilbert hodgkin hopper"
    " huygens hypatia jackson jemison joliot kalam kare kepler khayyam kilby knuth kovalevskaya lamarr leavitt"
    " leibniz lichterman liskov lovelace lumiere maathai maxwell mayer mcclintock meitner mendel mendeleev"
    " mirzakhani morse napier nash newton nightingale noether pascal pasteur perlman planck poincare ptolemy"
    " ramanujan ride ritchie rothschild rubin saha sammet shannon shaw shockley sinoussi somerville stallman"
    " swirles tesla thompson torvalds turing volta wiles williams wing wu yalow yonath zhukovsky"
)


def build_name(is_taken: Callable[[str], bool]) -> str:
    """A name that is free. A digit is added when luck runs out, as Docker does."""
    for _ in range(6):
        name = f"{random.choice(ADJECTIVES)}_{random.choice(SURNAMES)}"
        if not is_taken(name):
            return name
    while True:
        name = f"{random.choice(ADJECTIVES)}_{random.choice(SURNAMES)}{random.randrange(10_000)}"
        if not is_taken(name):
            return name
