package cauldron.guardrail_test

import data.cauldron.guardrail

test_one_of_the_team_approves if {
	some rule in guardrail.step_up with input as {"proposal": {"operation": "devops.file.restore"}}
	rule.approvals == [{"group": "devops", "n": 1}]
}
