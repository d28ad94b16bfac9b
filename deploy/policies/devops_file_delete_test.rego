package cauldron.guardrail_test

import data.cauldron.guardrail

request := {"proposal": {"operation": "devops.file.delete", "args": {"path": "old.conf"}}, "taint": []}

test_two_of_the_team_touch_their_keys if {
	some rule in guardrail.step_up with input as request
	rule.approvals == [{"group": "devops", "n": 2}]
	rule.assurance == "verified"
	rule.distinct_from == ["self-served"]
}

test_strangers_are_no_reason if {
	count(guardrail.deny) == 1 with input as object.union(request, {"taint": ["untrusted:web"]})
}
