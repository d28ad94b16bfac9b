# Giving a managed file its former content back (class R2).
package cauldron.guardrail

limits := data.devops_file

step_up contains {
	"rule": "team.approves",
	"why": "a change of configuration needs somebody of the team",
	"approvals": [{"group": limits.approver_group, "n": 1}],
	"decide_within_ms": limits.decide_within_ms,
} if {
	input.proposal.operation == "devops.file.restore"
}
