/** How many things wait for a person, for the badge of the navigation. */
import { useParams } from "@tanstack/react-router";
import { useWaiting } from "./data";

/** Of the tenant in the path; `undefined` while it is not known. */
export function useAttentionCount(): number | undefined {
	const { tenant } = useParams({ strict: false });
	const { approvals, letters } = useWaiting(tenant ?? "default");
	if (!approvals.data || !letters.data) return undefined;
	return approvals.data.items.length + letters.data.items.length;
}
