"""Classes of annotated beats by ANSI/AAMI EC57, and the WFDB symbols that stand for them."""

from __future__ import annotations

CLASSES = ("N", "S", "V", "F", "Q")
"""Normal (bundle branch block included), supraventricular ectopic, ventricular ectopic, fusion, paced or unknown."""
CLASS_OF = {
    symbol: name
    for name, symbols in zip(CLASSES, ("NLRBej", "AaJSn", "VEr", "F", "/fQ?"), strict=True)
    for symbol in symbols
}
"""WFDB symbol that marks a beat -> its class (ANSI/AAMI EC57; de Chazal, O'Dwyer and Reilly 2004)."""
