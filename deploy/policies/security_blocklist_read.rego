# Reading which addresses are blocked (class R0): anybody in the mesh may, and it is on the record.
package cauldron.guardrail

allow contains {"rule": "blocklist.read", "why": "what is blocked is no secret inside the mesh"} if {
	input.proposal.operation == "security.blocklist.read"
}
