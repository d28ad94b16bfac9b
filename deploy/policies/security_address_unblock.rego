# Ending a block before its time (class R1): whoever may block may also unblock.
package cauldron.guardrail

limits := data.address_block

step_up contains {
	"rule": "duty.approves",
	"why": "letting an address back in needs a person on duty",
	"approvals": [{"group": limits.approver_group, "n": limits.approvers}],
	"decide_within_ms": limits.decide_within_ms,
} if {
	input.proposal.operation == "security.address.unblock"
}
