-- Versions of the customer importance that are not read again.
create or replace temp view known_importance as
select importance_version, digest, state
from raw.importance_versions
where limit_setting is null or (limit_setting, limit_bytes) in (select (setting, bytes) from limits_in_force)
