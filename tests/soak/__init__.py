"""Proof under load: scenarios that are repeated for minutes, in which no request may be lost and nothing may be left over."""
