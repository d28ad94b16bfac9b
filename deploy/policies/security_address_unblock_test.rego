package cauldron.guardrail_test

import data.cauldron.guardrail

test_a_person_on_duty_decides if {
	some need in guardrail.step_up with input as {"proposal": {"operation": "security.address.unblock"}}
	need.approvals == [{"group": "security-duty", "n": 1}]
}

test_another_operation_is_not_this_rules_to_approve if {
	count(guardrail.step_up) == 0 with input as {"proposal": {"operation": "security.address.block"}}
}
