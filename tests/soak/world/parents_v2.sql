alter table public.cards
add constraint cards_folder foreign key (folder_id) references public.folders (id)
on delete cascade on update cascade,
add constraint cards_label foreign key (label_id) references public.labels (id)
on delete set null on update cascade;
