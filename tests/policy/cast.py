"""The documents that the policy tests share: the two tenants and the host of the design's example, and small makers."""

import copy
import json
import os
from typing import Any, Final

ORACLES: Final = int(os.environ.get("ORACLES", "1"))  # how much is compared with slow twins: `make oracles` takes 5
NOW = "2026-03-02T12:00:00Z"

A_DB: dict[str, Any] = json.loads("""
{"format": "vpms-policy/1", "vm": "a-db", "tenant": "alpha", "version": 1,
 "size": {"vcpus": 4, "memory_mib": 4096}, "trustClass": "default",
 "labels": {"conflictClass": [], "exhibits": ["database"], "refuses": ["untrusted-code"]},
 "switches": {
  "memory_protection": {"weight": 300, "values": {"snp_tdx": 1000, "hsvm": 1000, "sev": 500, "none": "veto"},
                        "approval": "human"},
  "page_sharing": {"weight": 150, "values": {"off": 1000, "same_tenant": 400, "on": "veto"}},
  "smt": {"weight": 250, "values": {"off": 1000, "core_scheduling": 700, "shared": 0}},
  "mitigations": {"weight": 200, "values": {"full": 1000, "default": 600, "off": "veto"}},
  "core_dump": {"weight": 100, "values": {"never": 1000, "encrypted": 500, "allowed": "veto"}}},
 "rules": [{"when": {"switch": "core_dump", "in": ["encrypted"]}, "then": {"switch": "audit_level", "in": ["full"]}}],
 "disagreement": {"kind": "other-host", "utility": 500, "budget": 0},
 "delegate": {"mode": "auto-within-bounds", "floor": 600, "deadline_s": 86400, "onTimeout": "reject"},
 "maintenance": [[0, 360]], "validity": {"notBefore": null, "notAfter": null}}
""")
B_WEB: dict[str, Any] = json.loads("""
{"format": "vpms-policy/1", "vm": "b-web", "tenant": "beta", "version": 1,
 "size": {"vcpus": 2, "memory_mib": 2048}, "trustClass": "default",
 "labels": {"conflictClass": [], "exhibits": [], "refuses": []},
 "switches": {
  "page_sharing": {"weight": 200, "values": {"off": 0, "same_tenant": 500, "on": 1000}},
  "smt": {"weight": 300, "values": {"off": 0, "core_scheduling": 600, "shared": 1000}},
  "mitigations": {"weight": 200, "values": {"full": 200, "default": 900, "off": 1000}},
  "snapshot": {"weight": 300, "values": {"never": 0, "encrypted": 800, "allowed": 1000}}},
 "rules": [],
 "disagreement": {"kind": "do-not-start", "utility": 200, "budget": 50},
 "delegate": {"mode": "auto", "deadline_s": 3600, "onTimeout": "reject"},
 "validity": {"notBefore": null, "notAfter": null}}
""")
H1: dict[str, Any] = json.loads("""
{"format": "vpms-host/1", "host": "h1", "zone": "z1", "attested": true,
 "capabilities": {"memory_protection": ["hsvm", "none"]},
 "capacity": {"cores": 8, "memory_mib": 16384, "hugepage_mib": 0, "cache_ways": 12, "bandwidth_pct": 100,
              "key_slots": 0},
 "operator": {"law": {"audit_level": ["full", "metadata"]}, "offers": {},
  "actions": ["reclaim", "snapshot", "core_dump"],
  "maintenance_min": 60, "preferences": null, "prices": {"relocate": 5, "dedicated_host": 40}},
 "running": [], "departed": [], "agreement": null}
""")


def a_db(**changes: Any) -> dict[str, Any]:
    return {**copy.deepcopy(A_DB), **changes}


def b_web(**changes: Any) -> dict[str, Any]:
    return {**copy.deepcopy(B_WEB), **changes}


def h1(**changes: Any) -> dict[str, Any]:
    return {**copy.deepcopy(H1), **changes}


def vm(name: str, tenant: str, switches: dict[str, tuple[int, dict[str, Any]]], **changes: Any) -> dict[str, Any]:
    """A small policy: switches as name -> (weight, scores)."""
    return {
        "format": "vpms-policy/1",
        "vm": name,
        "tenant": tenant,
        "version": 1,
        "size": {"vcpus": 1, "memory_mib": 512},
        "switches": {key: {"weight": weight, "values": scores} for key, (weight, scores) in switches.items()},
        "disagreement": {"kind": "do-not-start", "utility": 0},
        "delegate": {"mode": "auto"},
        **changes,
    }
