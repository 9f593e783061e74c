const labels: Record<string, string> = {
  customer_asked: 'the contact asked for one',
  missing_knowledge: 'the knowledge base has no answer',
  unsupported_request: 'the request is outside what it may do',
  policy: 'a policy wants a person to decide',
  tool_failure: 'a tool failed',
  pending_clarification: 'something has to be clarified first',
  budget: 'its budget for this conversation is used up',
  qualified_lead: 'the lead is qualified',
  sentiment: 'the contact is upset',
  high_value: 'the lead has a high value',
  out_of_hours: 'it is out of hours',
}

/** Why a handoff was asked for, as the end of "Ava asks for a person: ...". */
export function reasonLabel(reason: string): string {
  return labels[reason] ?? reason.replaceAll('_', ' ')
}
