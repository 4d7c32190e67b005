create table book(id integer primary key, title text, year int, price real);
with recursive n(i) as (select 1 union all select i + 1 from n where i < 400)
  insert into book select i, 'book ' || (i * 7919 % 1000), 1900 + i * 37 % 120, i * 0.5 from n;
create index by_year on book(year);
select year, count(*), avg(price) from book where title like '%1%' group by year order by 2 desc limit 5;
