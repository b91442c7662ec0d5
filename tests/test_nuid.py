"""Unique identifiers."""

from __future__ import annotations

import re

from natsery._nuid import new_nuid


def test_new_ids_have_the_form_of_a_nuid_and_differ():
    ids = {new_nuid() for _ in range(50)}
    assert len(ids) == 50
    assert all(re.fullmatch("[0-9A-Za-z]{22}", each) for each in ids)
