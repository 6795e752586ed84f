-- Health of an InferenceEndpoint, for Argo CD: resource.customizations.health.larder.dev_InferenceEndpoint in argocd-cm.
local health = {status = "Progressing", message = "the controller has not looked at it yet"}
local conditions = {}
if obj.status ~= nil and obj.status.conditions ~= nil then
  for _, condition in ipairs(obj.status.conditions) do
    conditions[condition.type] = condition
  end
end
local ready = conditions.Ready
if ready == nil or ready.observedGeneration ~= obj.metadata.generation then
  return health
end
health.message = ready.message
local annotations = obj.metadata.annotations or {}
if conditions.Stalled ~= nil and conditions.Stalled.status == "True" then
  health.status = "Degraded"
elseif conditions.Suspended ~= nil or ready.reason == "PlanOnly" or ready.reason == "Paused" then
  health.status = "Suspended"
elseif ready.status == "True" then
  health.status = "Healthy"
end
return health
