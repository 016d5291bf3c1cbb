import { expect, it } from "vitest";
import { histograms, quantile, samples, total } from "./metrics";

const TEXT = `# HELP mesh_http_duration_seconds Time
# TYPE mesh_http_duration_seconds histogram
mesh_http_duration_seconds_bucket{method="GET",route="/a",le="0.01"} 50
mesh_http_duration_seconds_bucket{method="GET",route="/a",le="+Inf"} 100
mesh_http_duration_seconds_bucket{method="GET",route="/a",le="0.1"} 90
mesh_http_duration_seconds_sum{method="GET",route="/a"} 3.5
mesh_http_duration_seconds_count{method="GET",route="/a"} 100
mesh_http_requests_total{route="/a",status="500"} 2
mesh_http_requests_total{route="/a",status="200"} 98
said{text="a \\"b\\", {c}"} 1
broken{ 1
`;

it("reads samples with their labels and leaves out what is malformed", () => {
	const read = samples(TEXT);
	expect(read).toHaveLength(8);
	expect(read.at(-1)?.labels.get("text")).toBe('a "b", {c}');
	expect(total(read, "mesh_http_requests_total", (labels) => (labels.get("status") ?? "") >= "500")).toBe(2);
});

it("computes quantiles as Prometheus does", () => {
	const [of] = histograms(samples(TEXT), "mesh_http_duration_seconds");
	expect(of).toMatchObject({ count: 100, sum: 3.5 });
	const at = (share: number) => quantile(share, of?.buckets ?? []);
	expect(at(0.5)).toBeCloseTo(0.01);
	expect(at(0.25)).toBeCloseTo(0.005);
	expect(at(0.7)).toBeCloseTo(0.01 + 0.09 * 0.5);
	expect(at(0.99)).toBeCloseTo(0.1);
	expect(quantile(0.5, [])).toBeUndefined();
});
