# Reading a managed file (class R0). What looks like a secret is no agent's to read.
package cauldron.guardrail

deny contains {"rule": "file.secret", "why": why} if {
	some pattern in data.devops_file.secret
	glob.match(pattern, ["/"], input.proposal.args.path)
	why := sprintf("%s is kept from agents (%s)", [input.proposal.args.path, pattern])
}

allow contains {"rule": "file.read", "why": "managed files may be read inside the mesh"} if {
	input.proposal.operation == "devops.file.read"
}
