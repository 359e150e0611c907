-- Of a member's lots those that say how it stands: all whose time is over, and the ten that are spent next. A member
-- may have thousands, and neither a balance nor a posting has to read them.
create function loyalty.lots_near(member uuid, at timestamptz)
returns table (lot_id uuid, remaining bigint, expires_at timestamptz) language sql stable rows 11 as $$
    select l.lot_id, l.remaining, l.expires_at from loyalty.lots l
    where l.member_id = member and l.remaining > 0 and l.expires_at <= at
    union all
    (select l.lot_id, l.remaining, l.expires_at from loyalty.lots l
     where l.member_id = member and l.remaining > 0 and (l.expires_at > at or l.expires_at is null)
     order by l.expires_at, l.lot_id
     limit 10)
$$;
