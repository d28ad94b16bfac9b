# Reads of class R0 go.
package cauldron.guardrail

allow contains {"rule": "list.read", "why": "it only reads"} if input.proposal.action_class
