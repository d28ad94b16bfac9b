package cauldron.guardrail_test

import data.cauldron.guardrail

request := {
	"confidence": {"raw_ppm": 900000},
	"proposal": {
		"operation": "security.address.block",
		"args": {"address": "192.0.2.200", "ttl_s": 3600, "reason": "brute force"},
		"evidence": [{"line_no": 1}],
		"reversibility": "reversible",
		"undo_plan": "remove the line",
	},
}

with_args(args) := object.union(request, {"proposal": {"args": object.union(request.proposal.args, args)}})

denied_by(rules) := {d.rule | some d in rules}

test_an_ordinary_block_asks_one_person_on_duty if {
	count(guardrail.deny) == 0 with input as request
	some need in guardrail.step_up with input as request
	need.approvals == [{"group": "security-duty", "n": 1}]
}

test_policy_alone_never_allows if {
	{rule | some rule in guardrail.allow} == set() with input as request
}

test_protected_ranges_are_never_blocked if {
	every address in ["127.0.0.1", "10.1.2.3", "192.168.0.1", "172.31.255.255", "169.254.169.254", "224.0.0.1", "255.255.255.255", "::1", "fe80::1", "fd00::1"] {
		denied_by(guardrail.deny) == {"address.protected"} with input as with_args({"address": address})
	}
}

test_neighbours_of_protected_ranges_may_be_blocked if {
	every address in ["172.32.0.1", "11.0.0.1", "2001:db8::1", "192.0.2.200"] {
		count(guardrail.deny) == 0 with input as with_args({"address": address})
	}
}

test_a_long_block_is_denied if {
	denied_by(guardrail.deny) == {"ttl.limit"} with input as with_args({"ttl_s": 86401})
}

test_the_longest_block_is_not_denied if {
	count(guardrail.deny) == 0 with input as with_args({"ttl_s": 86400})
}

test_low_confidence_is_denied if {
	denied_by(guardrail.deny) == {"confidence.floor"} with input as object.union(request, {"confidence": {"raw_ppm": 499999}})
}

test_confidence_at_the_floor_is_not_denied if {
	count(guardrail.deny) == 0 with input as object.union(request, {"confidence": {"raw_ppm": 500000}})
}

test_no_evidence_is_denied if {
	denied_by(guardrail.deny) == {"evidence.missing"} with input as object.union(request, {"proposal": {"evidence": []}})
}

test_no_undo_plan_is_denied if {
	denied_by(guardrail.deny) == {"undo.missing"} with input as object.union(request, {"proposal": {"undo_plan": ""}})
}

test_another_operation_is_not_this_rules_to_approve if {
	count(guardrail.step_up) == 0 with input as object.union(request, {"proposal": {"operation": "security.endpoint.isolate"}})
}
