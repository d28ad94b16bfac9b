# Deleting a managed file for good (class R3): nothing brings it back, so two people touch their keys, on pages of a node that has no
# part in it, and what strangers wrote is no reason for it.
package cauldron.guardrail

limits := data.devops_file

deny contains {"rule": "taint.outside", "why": why} if {
	some label in input.taint
	startswith(label, "untrusted:")
	why := sprintf("it was shaped by %s, and cannot be taken back", [label])
}

step_up contains {
	"rule": "two.approve",
	"why": "what cannot be taken back needs two people of the team",
	"approvals": [{"group": limits.approver_group, "n": 2}],
	"assurance": "verified",
	"distinct_from": ["self-served"],
	"decide_within_ms": limits.decide_within_ms,
	"notify": [limits.escalate_to],
} if {
	input.proposal.operation == "devops.file.delete"
}
