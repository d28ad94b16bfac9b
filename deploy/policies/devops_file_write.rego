# Writing a managed file (class R2): it can be restored, and until then everybody lives with it.
package cauldron.guardrail

limits := data.devops_file

deny contains {"rule": "file.secret", "why": why} if {
	some pattern in limits.secret
	glob.match(pattern, ["/"], input.proposal.args.path)
	why := sprintf("%s is kept from agents (%s)", [input.proposal.args.path, pattern])
}

deny contains {"rule": "diff.missing", "why": "nobody can judge a change that is not shown: no dry run"} if {
	not input.proposal.dry_run
}

step_up contains {
	"rule": "team.approves",
	"why": "a change of configuration needs somebody of the team",
	"approvals": [{"group": limits.approver_group, "n": 1}],
	"decide_within_ms": limits.decide_within_ms,
	"escalate": [{"after_ms": limits.escalate_after_ms, "add": limits.escalate_to}],
	"post_checks": ["content"],
} if {
	input.proposal.operation == "devops.file.write"
}

# Text of strangers shaped it: somebody looks who is paid to be suspicious.
step_up contains {
	"rule": "taint.second",
	"why": sprintf("it was shaped by %s", [concat(", ", from_outside)]),
	"approvals": [{"group": limits.second_group, "n": 1}],
	"decide_within_ms": limits.decide_within_ms,
} if {
	count(from_outside) > 0
}

from_outside contains label if {
	some label in input.taint
	startswith(label, "untrusted:")
}
